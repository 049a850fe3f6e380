import { type CountedConfig, flops } from '../analysis/flops';
import { bytes, count, table } from './output';

/** Kept fractions that tables show unless others are asked for; at 576 patches they are 576, 432, 288, 144, 58 and 29 tokens, those of the paper's table. */
const RATIOS = [1, 0.75, 0.5, 0.25, 0.1, 0.05];

export interface BudgetRow {
  readonly tokensPerCrop: number;
  /** Of all crops together. */
  readonly visualTokens: number;
  /** Tokens are dropped before the decoder (VisPruner and all others), or before decoder block 2 (FastV). */
  readonly beforeDecoder: Cost;
  readonly fastv?: Cost;
}

export interface Cost {
  /** Vision tower and prefill of the decoder; a multiply and an add are two. */
  readonly flops: number;
  /** Keys and values, float16. */
  readonly cacheBytes: number;
}

export interface BudgetOptions {
  readonly crops: number;
  readonly textTokens: number;
  /** Kept of each crop; the usual fractions when absent. */
  readonly tokens?: readonly number[];
}

export interface Budgets {
  /** With every visual token. */
  readonly all: Cost;
  readonly rows: readonly BudgetRow[];
}

/** What each budget costs by the paper's counting. */
export function countBudgets(config: CountedConfig, patches: number, { crops, textTokens, tokens }: BudgetOptions): Budgets {
  const blocks = config.text_config.num_hidden_layers;
  const cost = (entering: readonly number[]): Cost => {
    const { total, cache } = flops(config, { visualTokens: entering.map((one) => one * crops), textTokens, crops });
    return { flops: total, cacheBytes: cache };
  };
  const usual = new Set(RATIOS.map((ratio) => Math.max(1, Math.round(patches * ratio))));
  const same = (kept: number) => new Array<number>(blocks).fill(kept);
  const rows = (tokens ?? [...usual]).map((kept) => ({
    tokensPerCrop: kept,
    visualTokens: kept * crops,
    beforeDecoder: cost(same(kept)),
    fastv: blocks > 2 && kept < patches ? cost(Array.from({ length: blocks }, (_, block) => (block < 2 ? patches : kept))) : undefined,
  }));
  return { all: cost(same(patches)), rows };
}

export function budgetTable({ all, rows }: Budgets): string {
  const work = ({ flops: value }: Cost) => count(value, all.flops);
  const memory = ({ cacheBytes }: Cost) => bytes(cacheBytes, Math.min(all.cacheBytes, 2 ** 29)); // MiB at most, as in the paper
  const header = ['tokens a crop', 'visual tokens', 'FLOPs', 'of all', 'KV cache', 'FastV FLOPs', 'KV cache'];
  const cells = rows.map(({ tokensPerCrop, visualTokens, beforeDecoder, fastv }) => [
    String(tokensPerCrop),
    String(visualTokens),
    work(beforeDecoder),
    `${((100 * beforeDecoder.flops) / all.flops).toFixed(1)}%`,
    memory(beforeDecoder),
    fastv ? work(fastv) : '',
    fastv ? memory(fastv) : '',
  ]);
  return table(header, cells);
}
