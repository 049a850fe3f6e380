import { createPruner, type PruneOptions } from '../prune/registry';

/** Shares of the visual tokens at which methods are compared. */
export const BUDGETS: readonly number[] = [1, 0.5, 0.22, 0.11, 0.056, 0.028];
export const COMPARED_METHODS = ['vispruner', 'cls-top-k', 'dedup', 'fastv', 'random'] as const;
export type ComparedMethod = (typeof COMPARED_METHODS)[number];

/** One way of asking the model: a cell of the table (random has one for each seed). */
export interface Condition {
  /** Unique, and stable between runs: `vispruner 28`, `random 28 seed 1`, `all`, `blind`. */
  readonly key: string;
  /** The row of the table. */
  readonly row: string;
  /** The column: a share of `BUDGETS`; blind has none. */
  readonly budget?: number;
  /** Visual tokens entering a decoder block, averaged over the blocks. */
  readonly averageTokens: number;
  /** Options for the scene with this number. Absent: the image is withheld. */
  readonly prune?: (scene: number) => PruneOptions;
}

export interface ConditionOptions {
  readonly methods: readonly ComparedMethod[];
  /** Shares below 1; all tokens are always asked. */
  readonly budgets: readonly number[];
  /** One random subset of every image for each. */
  readonly randomSeeds: readonly number[];
  readonly blind: boolean;
  readonly importantRatio: number;
  readonly patches: number;
  readonly decoderBlocks: number;
}

/** Apart enough that two seeds never share a subset for any scene. */
const SCENES_PER_SEED = 1_000_000;
/** The first block that FastV can prune before. A decoder of few blocks leaves no choice: a later one could reach no budget of the table. */
const FASTV_LAYER = 1;

/**
 * Every condition of a comparison. Budgets are compared by the tokens that *enter* blocks, averaged over blocks: FastV's first blocks run on
 * all tokens, so it must drop more later, and budgets below `patches * layer / blocks` are out of its reach (no condition, `-` in the table).
 * There a second FastV row keeps as many tokens as the others keep, after its full blocks; its average is larger and stands beside its accuracy.
 */
export function conditionsOf(options: ConditionOptions): Condition[] {
  const { patches, decoderBlocks, importantRatio } = options;
  const conditions: Condition[] = [{ key: 'all', row: 'all', budget: 1, averageTokens: patches, prune: () => ({ method: 'none' }) }];
  if (options.blind) conditions.push({ key: 'blind', row: 'blind', averageTokens: 0 });
  for (const method of options.methods) {
    for (const budget of options.budgets.filter((share) => share < 1)) {
      const tokens = Math.max(1, Math.round(patches * budget));
      if (method === 'random') {
        for (const seed of options.randomSeeds) {
          conditions.push({
            key: `random ${tokens} seed ${seed}`,
            row: `random, seed ${seed}`,
            budget,
            averageTokens: tokens,
            prune: (scene) => ({ method, tokens, seed: seed * SCENES_PER_SEED + scene }),
          });
        }
      } else if (method === 'fastv') {
        const kept = Math.round((decoderBlocks * tokens - FASTV_LAYER * patches) / (decoderBlocks - FASTV_LAYER));
        if (kept >= 1) conditions.push(fastV(`fastv (block ${FASTV_LAYER})`, budget, kept, options));
        else conditions.push(fastV('fastv, by tokens kept', budget, tokens, options));
      } else {
        const prune: PruneOptions = method === 'vispruner' ? { method, tokens, importantRatio } : { method, tokens };
        const row = method === 'vispruner' ? `vispruner, r = ${importantRatio}` : method;
        conditions.push({ key: `${method} ${tokens}`, row, budget, averageTokens: tokens, prune: () => prune });
      }
    }
  }
  return conditions;
}

function fastV(row: string, budget: number, tokens: number, { patches, decoderBlocks }: ConditionOptions): Condition {
  const prune: PruneOptions = { method: 'fastv', tokens, layer: FASTV_LAYER };
  const entering = createPruner(prune).enteringTokens(patches, decoderBlocks);
  const averageTokens = (entering ?? []).reduce((sum, count) => sum + count, 0) / decoderBlocks;
  return { key: `${row} ${tokens}`, row, budget, averageTokens, prune: () => prune };
}
