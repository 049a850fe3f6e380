import { PruneError } from '../../layers/errors';
import type { PruneOptions } from '../prune/registry';
import { averageOf, type Budgeted, budgeted, hasBudget, type Instead, isNear } from './method_budget';
import { type ComparedMethod, methodNamed } from './method_list';

/** Shares of the visual tokens at which methods are compared. */
export const BUDGETS: readonly number[] = [0.5, 0.22, 0.11, 0.056];

/** One way of asking the model. */
export interface Condition {
  /** Unique, and stable between runs: `vispruner 28`, `random 28 seed 1`, `all`, `blind`. */
  readonly key: string;
  /** The row of the table: a method as it was named. Those of several seeds share one. */
  readonly row: string;
  /** The column: a share of the visual tokens. `all` has 1; blind, and a method that takes no budget, none. */
  readonly budget?: number;
  readonly seed?: number;
  /** Visual tokens of a crop that enter a decoder block, averaged over the blocks; absent where that depends on the image. */
  readonly averageTokens?: number;
  /** Options for the image with this number. Absent: the image is withheld. */
  readonly prune?: (image: number) => PruneOptions;
}

/** A cell that stays empty. */
export interface Unreachable extends Instead {
  readonly row: string;
  readonly budget: number;
}

export interface ConditionOptions {
  readonly methods: readonly ComparedMethod[];
  /** Methods with all of their options, a budget too: each takes the column that it comes near to. */
  readonly tuned?: readonly PruneOptions[];
  /** Shares below 1; all tokens are always asked. */
  readonly budgets: readonly number[];
  /** Methods that draw are asked once for each. */
  readonly seeds: readonly number[];
  /** Ask without the image too. */
  readonly blind: boolean;
  readonly patches: number;
  readonly decoderBlocks: number;
  /** Up to that of the features. */
  readonly encoderBlocks?: number;
}

export interface Conditions {
  readonly asked: readonly Condition[];
  readonly unreachable: readonly Unreachable[];
}

/** Apart enough that two seeds never share a subset for any image. */
const IMAGES_PER_SEED = 1_000_000;

/**
 * Every condition of a comparison. Budgets are compared by the tokens that *enter* blocks, averaged over blocks: a method whose first blocks run on
 * all tokens must drop more later, and below what these alone amount to, a budget is out of its reach.
 *
 * @throws PruneError for options that a method refuses, `METHOD_LIST` for two files of options at one budget
 */
export function conditionsOf(options: ConditionOptions): Conditions {
  const { methods, tuned = [], budgets, seeds, blind, patches, decoderBlocks, encoderBlocks } = options;
  const facts = { patches, decoderBlocks, encoderBlocks };
  const asked: Condition[] = [{ key: 'all', row: 'all', budget: 1, averageTokens: patches, prune: () => ({ method: 'none' }) }];
  const unreachable: Unreachable[] = [];
  if (blind) asked.push({ key: 'blind', row: 'blind', averageTokens: 0 });
  for (const method of methods) {
    const row = method.label;
    const add = (key: string, { prune, averageTokens }: Met, budget?: number): void => {
      const shared = { row, budget, averageTokens };
      if (!draws(method)) asked.push({ ...shared, key, prune: () => prune });
      else for (const seed of seeds) asked.push({ ...shared, key: `${key} seed ${seed}`, seed, prune: (image) => withSeed(prune, seed, image) });
    };
    if (!hasBudget(method)) {
      const prune = { method: method.name, ...method.options } as PruneOptions;
      add(row, { prune, averageTokens: averageOf(prune, facts) });
      continue;
    }
    for (const budget of budgets) {
      const average = tokensAt(budget, patches);
      const found = budgeted(method, average, facts);
      if ('instead' in found) unreachable.push({ row, budget, ...found.instead });
      else add(`${row} ${average}`, found, budget);
    }
  }
  for (const prune of tuned) {
    const averageTokens = averageOf(prune, facts);
    const budget = budgets.find((share) => averageTokens !== undefined && isNear(averageTokens, tokensAt(share, patches)));
    const row = `${prune.method}, tuned`;
    const key = budget === undefined ? row : `${row} ${tokensAt(budget, patches)}`;
    if (asked.some((other) => other.key === key))
      throw new PruneError('METHOD_LIST', `Two files of options come to "${key}". Give one for each budget.`);
    asked.push({ key, row, budget, averageTokens, prune: () => prune });
  }
  return { asked, unreachable };
}

function tokensAt(budget: number, patches: number): number {
  return Math.max(1, Math.round(patches * budget));
}

type Met = Exclude<Budgeted, { readonly instead: Instead }>;

function draws({ name }: ComparedMethod): boolean {
  return methodNamed(name).options.includes('seed');
}

function withSeed(prune: PruneOptions, seed: number, image: number): PruneOptions {
  return { ...prune, seed: seed * IMAGES_PER_SEED + image } as PruneOptions;
}
