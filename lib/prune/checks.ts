import { type PruneCode, PruneError } from '../../layers/errors';

/** @throws PruneError with `code` unless `value` is a whole number from `least` to `most`. */
export function wholeNumber(value: unknown, name: string, code: PruneCode, least: number, most: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
    const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new PruneError(code, `Option "${name}" is ${show(value)}. Give a whole number ${range}.`);
  }
  return value;
}

/** @throws PruneError with `code` unless 0 <= `value` <= 1 (0 itself only if `zero`). */
export function fraction(value: unknown, name: string, code: PruneCode, zero: boolean): number {
  if (typeof value !== 'number' || !(zero ? value >= 0 : value > 0) || value > 1) {
    throw new PruneError(code, `Option "${name}" is ${show(value)}. Give a number ${zero ? 'from 0 to 1' : 'above 0, at most 1'}.`);
  }
  return value;
}

/** @throws PruneError `METHOD_OPTION_INVALID` unless `value` is true or false. */
export function flag(value: unknown, name: string): boolean {
  if (typeof value === 'boolean') return value;
  throw new PruneError('METHOD_OPTION_INVALID', `Option "${name}" is ${show(value)}. Give true or false.`);
}

/** Refuses a misspelt option, which would do nothing in silence. @throws PruneError `METHOD_OPTION_UNKNOWN` */
export function checkNames(options: object, known: readonly string[], owner: string): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  const remedy = known.length > 0 ? `Use one of these: ${known.join(', ')}.` : 'It has none: leave it out.';
  throw new PruneError('METHOD_OPTION_UNKNOWN', `${owner} has no option "${unknown}". ${remedy}`);
}

/** @throws PruneError `ATTENTION_NOT_FINITE` at the first score that is NaN or infinite. */
export function checkScores(scores: Float32Array): void {
  const bad = scores.findIndex((score) => !Number.isFinite(score));
  if (bad >= 0) {
    throw new PruneError(
      'ATTENTION_NOT_FINITE',
      `The attention of visual token ${bad} of ${scores.length} is ${scores[bad]}. Look for NaN or overflow in the weights or the image.`,
    );
  }
}

/** @throws PruneError `METHOD_OPTION_INVALID` */
export function checkPositions(positions: unknown): 'compact' | 'keep' {
  if (positions === 'compact' || positions === 'keep') return positions;
  throw new PruneError('METHOD_OPTION_INVALID', `Option "positions" is ${show(positions)}. Give "keep" or "compact".`);
}

/** A value as a message shows it: strings in quotes, so that '32' and 32 differ. */
export function show(value: unknown): string {
  return typeof value === 'string' ? `"${value}"` : String(value);
}
