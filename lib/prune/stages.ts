import { PruneError } from '../../layers/errors';
import { show } from './checks';

/** Tokens that stay at each stage, of a crop of N. */
export type StageCounts = readonly number[];

/**
 * Visual tokens entering each block, where the counts of a schedule hold from its layers on.
 *
 * @param layers block before which each drop takes place, ascending
 */
export function enteringByStage(patches: number, blocks: number, layers: readonly number[], counts: StageCounts): number[] {
  return Array.from({ length: blocks }, (_, block) => {
    const past = layers.filter((layer) => layer <= block).length;
    return past === 0 ? patches : (counts[past - 1] as number);
  });
}

/** Mean of a list. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * The knob in 0 to 1 at which a rising step function comes nearest to a target, in as few decimals as give the same value.
 *
 * @param average does not fall as the knob rises
 * @returns undefined where the nearest is farther off than `tolerance`
 */
export function nearestKnob(target: number, tolerance: number, average: (knob: number) => number): number | undefined {
  let [low, high] = [0, 1]; // average(low) < target <= average(high), where there are such
  if (average(1) < target) low = 1;
  for (let i = 0; i < 50 && low < 1; i++) {
    const middle = (low + high) / 2;
    if (average(middle) < target) low = middle;
    else high = middle;
  }
  const best = target - average(low) < average(high) - target && low > 0 ? low : high;
  const value = average(best);
  if (Math.abs(value - target) > tolerance) return undefined;
  for (let digits = 2; digits < 12; digits++) {
    const scale = 10 ** digits;
    const short = [Math.ceil(best * scale) / scale, Math.floor(best * scale) / scale].find(
      (knob) => knob > 0 && knob <= 1 && average(knob) === value,
    );
    if (short !== undefined) return short;
  }
  return best;
}

/** Layers at which a schedule could reach an average, and the share of its tokens that it would keep from stage to stage. */
export interface Reached<Options> {
  readonly knob: number;
  readonly options: Options;
}

/**
 * Of layers that are tried in turn, each time earlier ones: the first that reach the average without dropping nearly all at once; where none
 * does, the last that reach it.
 *
 * @param least a knob below it is nearly all
 */
export function gentlest<Options>(tries: readonly (Reached<Options> | undefined)[], least: number): Options | undefined {
  const reached = tries.filter((one) => one !== undefined);
  return (reached.find(({ knob }) => knob >= least) ?? reached.at(-1))?.options;
}

/**
 * Kept shares of a schedule's stages: above 0, at most 1, none above the one before.
 *
 * @throws PruneError `RATIOS_INVALID`
 */
export function checkRatios(ratios: unknown, name: string, length?: number): readonly number[] {
  const list: readonly unknown[] = Array.isArray(ratios) ? ratios : [];
  const good = list.every((ratio, i) => typeof ratio === 'number' && ratio > 0 && ratio <= (i === 0 ? 1 : (list[i - 1] as number)));
  if (list.length === 0 || !good || (length !== undefined && list.length !== length)) {
    const given = Array.isArray(ratios) ? `[${list.map(show).join(', ')}]` : show(ratios);
    const form = length === undefined ? 'a list' : `a list of ${length}, one a layer,`;
    throw new PruneError(
      'RATIOS_INVALID',
      `Option "${name}" is ${given}. Give ${form} of kept shares of all visual tokens: above 0, at most 1, not rising.`,
    );
  }
  return list as readonly number[];
}
