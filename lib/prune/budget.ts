import { PruneError } from '../../layers/errors';
import { fraction, show, wholeNumber } from './checks';

/** How many visual tokens of each crop are kept: a count, or a fraction of the crop's patches. */
export type Budget =
  /** Whole, 1 or more; more than the crop has patches is an error. */
  | { readonly tokens: number; readonly keepRatio?: undefined }
  /** Above 0, at most 1: round(N * keepRatio) tokens are kept, halves up, but at least one. */
  | { readonly keepRatio: number; readonly tokens?: undefined };

/** Tokens kept of a crop of `patches`. @throws PruneError `TOKENS_EXCEED_PATCHES` */
export type TokenCount = (patches: number) => number;

export const BUDGET_OPTIONS: readonly string[] = ['tokens', 'keepRatio'];

/**
 * @throws PruneError `BUDGET_MISSING` (neither `tokens` nor `keepRatio`), `BUDGET_AMBIGUOUS` (both), `TOKENS_INVALID`, `KEEP_RATIO_INVALID`
 */
export function tokenCount({ tokens, keepRatio }: { readonly tokens?: number; readonly keepRatio?: number }): TokenCount {
  if (tokens !== undefined && keepRatio !== undefined) {
    throw new PruneError('BUDGET_AMBIGUOUS', `Both "tokens" (${show(tokens)}) and "keepRatio" (${show(keepRatio)}) are given. Give one of them.`);
  }
  if (keepRatio !== undefined) {
    const ratio = fraction(keepRatio, 'keepRatio', 'KEEP_RATIO_INVALID', false);
    return (patches) => Math.max(1, Math.round(patches * ratio));
  }
  if (tokens === undefined) {
    throw new PruneError('BUDGET_MISSING', 'No budget is given. Give "tokens" (kept per crop) or "keepRatio" (kept fraction of each crop).');
  }
  const count = wholeNumber(tokens, 'tokens', 'TOKENS_INVALID', 1);
  return (patches) => {
    if (count > patches) {
      throw new PruneError(
        'TOKENS_EXCEED_PATCHES',
        `Option "tokens" is ${count}, but a crop has ${patches} visual tokens. Give at most ${patches}, or "keepRatio" for crops of any size.`,
      );
    }
    return count;
  };
}

/** The whole number of tokens nearest to an average, but at least one. */
export function wholeTokens(average: number): number {
  return Math.max(1, Math.round(average));
}
