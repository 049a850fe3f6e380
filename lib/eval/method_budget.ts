import type { BudgetFacts } from '../prune/method';
import { createPruner, type PruneOptions } from '../prune/registry';
import { type ComparedMethod, methodNamed } from './method_list';

/** Options that meet a budget and what enters a block with them, on average, where that can be told beforehand; or what can be had instead. */
export type Budgeted = { readonly prune: PruneOptions; readonly averageTokens?: number } | { readonly instead: Instead };

/** Averages that a method can reach; absent where it can reach none. */
export interface Instead {
  readonly least?: number;
  readonly nearest?: number;
}

/** Whether a method takes a budget at all. */
export function hasBudget({ name }: ComparedMethod): boolean {
  return methodNamed(name).forAverage !== undefined;
}

/**
 * Options of a method with which so many visual tokens enter a block, on average. Where options of the user's own change what a budget comes to (another
 * layer), the method's answer for another average is taken, the one that comes nearest with them.
 *
 * @throws PruneError for options that the method refuses
 */
export function budgeted(method: ComparedMethod, average: number, facts: BudgetFacts): Budgeted {
  const prune = optionsAt(method, average, facts);
  if (prune) {
    const averageTokens = averageOf(prune, facts);
    if (averageTokens === undefined || isNear(averageTokens, average)) return { prune, averageTokens };
  }
  const others = Array.from({ length: facts.patches }, (_, i) => i + 1).flatMap((wanted) => {
    const one = optionsAt(method, wanted, facts);
    return one ? [{ prune: one, averageTokens: averageOf(one, facts) ?? wanted }] : [];
  });
  const [nearest] = others.sort((a, b) => Math.abs(a.averageTokens - average) - Math.abs(b.averageTokens - average));
  if (nearest && isNear(nearest.averageTokens, average)) return nearest;
  const least = others.reduce<number | undefined>((low, { averageTokens: one }) => (low === undefined || one < low ? one : low), undefined);
  return { instead: { least, nearest: nearest?.averageTokens } };
}

/** Whether what a method comes to counts as the budget: within a token, or 3%. */
export function isNear(found: number, wanted: number): boolean {
  return Math.abs(found - wanted) <= Math.max(1, 0.03 * wanted);
}

function optionsAt(method: ComparedMethod, average: number, facts: BudgetFacts): PruneOptions | undefined {
  const found = methodNamed(method.name).forAverage?.(average, facts);
  return found && ({ ...found, ...method.options } as PruneOptions);
}

/** Visual tokens entering a block, averaged over the blocks; undefined where it depends on the image. */
export function averageOf(prune: PruneOptions, { patches, decoderBlocks }: BudgetFacts): number | undefined {
  const entering = createPruner(prune).enteringTokens(patches, decoderBlocks);
  return entering && entering.reduce((sum, count) => sum + count, 0) / decoderBlocks;
}
