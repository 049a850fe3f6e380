import type { WeightDtype } from '../lib/index';
import { type Bare, type BareProducts, BLOCK_ELEMENTS, blockWork, HEAD_ELEMENTS, prefillBlocks } from './bare_7b';
import { BLOCKS, PATCHES } from './llava_7b';
import { table } from './statistics';

interface Spent {
  /** Milliseconds that passed, and milliseconds of processor time. */
  readonly passed: number;
  readonly processor: number;
}

/** One question. */
export interface Sample {
  readonly encode: Spent;
  /** Milliseconds. */
  readonly select: number;
  /** Milliseconds in the decoder's blocks. */
  readonly prefill: number;
  /** From encoded images to the first token. */
  readonly first: Spent;
  /** One more token. */
  readonly step: Spent;
}

/** Figures of one number of visual tokens, with the blocks that there are. Milliseconds, each the lowest of the rounds. */
export interface Budget {
  readonly tokens: number;
  /** From pixels to the first token, as if there were 32 blocks. */
  firstToken: number;
  /** The same as measured. */
  measured: number;
  encode: number;
  select: number;
  prefill: number;
  step: number;
  readonly processor: { encode: number /** From encoded images to the first token. */; first: number; step: number };
  /** Most bytes that the process held meanwhile. */
  peak: number;
}

export interface Facts {
  readonly blocks: number;
  readonly dtype: WeightDtype;
  readonly text: number;
  /** Milliseconds of the head for one row. */
  readonly head: number;
  readonly load: { readonly seconds: number; readonly bytes: number; readonly peak: number; readonly before: number };
  readonly budgets: readonly Budget[];
}

const BYTES: Readonly<Record<WeightDtype, number>> = { float32: 4, bfloat16: 2, float16: 2, int8: 1 };

export function newBudget(tokens: number): Budget {
  const never = Number.POSITIVE_INFINITY;
  const processor = { encode: never, first: never, step: never };
  return { tokens, firstToken: never, measured: never, encode: never, select: never, prefill: never, step: never, processor, peak: Number.NaN };
}

export function keepLowest(budget: Budget, { encode, select, prefill, first, step }: Sample, blocks: number): void {
  const lower = <T>(figures: T, sample: { readonly [K in keyof T]?: number }) => {
    for (const name of Object.keys(sample) as (keyof T)[]) {
      (figures as Record<keyof T, number>)[name] = Math.min(figures[name] as number, sample[name] as number);
    }
  };
  const measured = encode.passed + first.passed;
  const firstToken = measured + prefill * (prefillScale(blocks) - 1);
  lower<Omit<Budget, 'processor' | 'tokens' | 'peak'>>(budget, { measured, firstToken, encode: encode.passed, select, prefill, step: step.passed });
  lower(budget.processor, { encode: encode.processor, first: first.processor, step: step.processor });
}

const gb = (bytes: number) => (bytes / 1e9).toFixed(2);
const seconds = (ms: number) => (ms / 1000).toFixed(2);
const percent = (share: number, digits = 0) => `${(100 * share).toFixed(digits)}%`;

/** How many times as long the prefill of 32 blocks takes as that of fewer. */
export function prefillScale(blocks: number): number {
  return prefillBlocks(BLOCKS) / prefillBlocks(blocks);
}

/** Milliseconds of one more token with 32 blocks. */
export function stepOf({ blocks, head }: Facts, { step }: Budget): number {
  return head + ((step - head) * BLOCKS) / blocks;
}

function bytesRead(dtype: WeightDtype): number {
  return BYTES[dtype] * (BLOCKS * BLOCK_ELEMENTS + HEAD_ELEMENTS);
}

export function reportHere(facts: Facts): string {
  const { blocks, dtype, text, head, load, budgets } = facts;
  const rows = budgets.map((budget) => [
    String(budget.tokens),
    seconds(budget.firstToken),
    seconds(budget.encode),
    budget.select.toFixed(1),
    percent(budget.select / budget.firstToken, 2),
    seconds(budget.prefill * prefillScale(blocks)),
    ((prefillBlocks(blocks) * blockWork(budget.tokens + text)) / budget.prefill / 1e6).toFixed(0),
    stepOf(facts, budget).toFixed(0),
    (bytesRead(dtype) / stepOf(facts, budget) / 1e6).toFixed(1),
    seconds(budget.measured),
    budget.step.toFixed(0),
    gb(budget.peak),
  ]);
  const scaled = blocks === BLOCKS ? 'all 32 decoder blocks' : `${blocks} decoder blocks, times scaled to 32 (memory and "measured" are not)`;
  return [
    `LLaVA-1.5-7B's shape, random weights in ${dtype}, ${scaled}; ${text} text tokens; head ${head.toFixed(1)} ms a row`,
    `Loading: ${load.seconds.toFixed(1)} s for ${gb(load.bytes)} GB, ${(load.bytes / 1e9 / load.seconds).toFixed(2)} GB/s; peak memory ${gb(load.peak)} GB (${gb(load.before)} GB before)`,
    '',
    table(
      [
        'visual tokens',
        'first token, s',
        'tower, s',
        'select, ms',
        'of first token',
        'prefill, s',
        'GFLOP/s',
        'a token, ms',
        'GB/s',
        'measured first, s',
        'measured token, ms',
        'peak memory, GB',
      ],
      rows,
    ),
  ].join('\n');
}

export function reportBare({ text, budgets }: Facts, bare: BareProducts): string {
  const line = (what: string, name: string, count: number, work: number) => {
    const { ms, processor } = bare.of(name, count);
    return [what, ms.toFixed(1), processor.toFixed(1), (work / ms / 1e6).toFixed(0), bare.ways(name, count).join(', ')];
  };
  const rows = [1, ...budgets.map(({ tokens }) => tokens + text)].map((count) => line(`block, ${count} row(s)`, 'block', count, blockWork(count)));
  const { ms, processor } = bare.tower;
  rows.push(line('head, 1 row', 'head', 1, 2 * HEAD_ELEMENTS), ['tower', ms.toFixed(0), processor.toFixed(0), '', '']);
  const title = 'Bare products of the same shapes, each in the way that is fastest here';
  return `${title}\n\n${table(['products', 'ms', 'processor, ms', 'GFLOP/s', 'fastest'], rows)}`;
}

/** The figures to reach: by the time that passed, and by processor time for a machine that has other work. */
export function reportRatios(facts: Facts, bare: BareProducts): string {
  const { blocks, text, budgets } = facts;
  const rows: string[][] = [];
  const add = (what: string, bound: string, shown: readonly [string, string], met: boolean) => rows.push([what, bound, ...shown, met ? 'yes' : 'NO']);
  for (const { tokens, prefill, processor } of budgets) {
    const ratio = (prefillBlocks(blocks) * bare.of('block', tokens + text).ms) / prefill;
    const computed = bare.prefill(tokens, text, blocks).processor / processor.first;
    add(`prefill of ${tokens + text}: rate over bare products`, '85%', [percent(ratio), percent(computed)], ratio >= 0.85);
  }
  for (const budget of budgets) {
    const ratio = bare.step(BLOCKS).ms / stepOf(facts, budget);
    const computed = bare.step(blocks).processor / budget.processor.step;
    add(`a token behind ${budget.tokens + text}: rate over bare products`, '85%', [percent(ratio), percent(computed)], ratio >= 0.85);
  }
  for (const { tokens, share, bareShare } of shares(facts, bare)) {
    const ratio = share.ms / bareShare.ms;
    const both = (name: 'ms' | 'processor') =>
      `${(share[name] / bareShare[name]).toFixed(2)} (${share[name].toFixed(3)} / ${bareShare[name].toFixed(3)})`;
    add(`first token at ${tokens} over ${PATCHES} (here / bare)`, '1.10', [both('ms'), both('processor')], ratio <= 1.1);
  }
  for (const { tokens, select, firstToken } of budgets) {
    if (tokens === PATCHES) continue;
    const share = select / firstToken;
    add(`choosing ${tokens}`, '30 ms, 1%', [`${select.toFixed(1)} ms, ${percent(share, 2)}`, ''], select <= 30 && share <= 0.01);
  }
  return table(['figure', 'bound', 'here', 'by processor time', 'met'], rows);
}

/** What part of the first token's time at 576 visual tokens is left at fewer, here and in bare products. */
function shares({ blocks, text, budgets }: Facts, bare: BareProducts): { readonly tokens: number; readonly share: Bare; readonly bareShare: Bare }[] {
  const full = budgets.find(({ tokens }) => tokens === PATCHES);
  if (!full) return [];
  const spent = ({ tokens, firstToken, processor }: Budget): Bare => {
    const inBlocks = processor.first - bare.prefill(tokens, text, 0).processor;
    return { ms: firstToken, processor: processor.encode + processor.first + inBlocks * (prefillScale(blocks) - 1) };
  };
  const over = (one: Bare, other: Bare): Bare => ({ ms: one.ms / other.ms, processor: one.processor / other.processor });
  const pruned = budgets.filter((budget) => budget !== full);
  return pruned.map((budget) => ({
    tokens: budget.tokens,
    share: over(spent(budget), spent(full)),
    bareShare: over(bare.firstToken(budget.tokens, text), bare.firstToken(PATCHES, text)),
  }));
}
