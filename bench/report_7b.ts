import type { Timing, WeightDtype } from '../lib/index';
import { type BareProducts, BLOCK_ELEMENTS, blockWork, HEAD_ELEMENTS } from './bare_7b';
import { BLOCKS, PATCHES } from './llava_7b';
import { table } from './statistics';

/** Figures of one number of visual tokens. Times in milliseconds, the lowest of the rounds. */
export interface Budget {
  readonly tokens: number;
  /** As if there were 32 blocks. */
  firstToken: number;
  /** To the first token, as measured. */
  measured: number;
  encode: number;
  select: number;
  /** Of the blocks that there are. */
  prefill: number;
  /** One more token, with the blocks that there are. */
  step: number;
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
  return { tokens, firstToken: never, measured: never, encode: never, select: never, prefill: never, step: never, peak: Number.NaN };
}

/** @param scale 32 / blocks */
export function keepLowest(budget: Budget, timing: Timing, scale: number): void {
  const keep = (name: 'firstToken' | 'measured' | 'encode' | 'select' | 'prefill' | 'step', ms: number) => {
    budget[name] = Math.min(budget[name], ms);
  };
  keep('measured', timing.firstToken);
  keep('firstToken', timing.firstToken + timing.prefill * (scale - 1));
  keep('encode', timing.encode);
  keep('select', timing.select);
  keep('prefill', timing.prefill);
  keep('step', timing.decode);
}

const gb = (bytes: number) => (bytes / 1e9).toFixed(2);
const seconds = (ms: number) => (ms / 1000).toFixed(2);
const percent = (share: number, digits = 0) => `${(100 * share).toFixed(digits)}%`;

/** Milliseconds of one more token with 32 blocks. */
export function stepOf({ blocks, head }: Facts, { step }: Budget): number {
  return head + ((step - head) * BLOCKS) / blocks;
}

function bytesRead(dtype: WeightDtype): number {
  return BYTES[dtype] * (BLOCKS * BLOCK_ELEMENTS + HEAD_ELEMENTS);
}

export function reportHere(facts: Facts): string {
  const { blocks, dtype, text, head, load, budgets } = facts;
  const scale = BLOCKS / blocks;
  const rows = budgets.map((budget) => [
    String(budget.tokens),
    seconds(budget.firstToken),
    seconds(budget.encode),
    budget.select.toFixed(1),
    percent(budget.select / budget.firstToken, 2),
    seconds(budget.prefill * scale),
    ((scale * blocks * blockWork(budget.tokens + text)) / (budget.prefill * scale) / 1e6).toFixed(0),
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
  const counts = [1, ...budgets.map(({ tokens }) => tokens + text)];
  const rows = counts.map((count) => {
    const { ms, ways } = bare.of('block', count);
    return [`block, ${count} rows`, ms.toFixed(1), (blockWork(count) / ms / 1e6).toFixed(0), ways.join(', ')];
  });
  const tower = (bare.vision / 1000).toFixed(2);
  const head = bare.of('head', 1);
  return [
    'Bare products of the same shapes, each in the way that is fastest here',
    '',
    table(
      ['products', 'ms', 'GFLOP/s', 'fastest'],
      [...rows, ['head, 1 row', head.ms.toFixed(1), '', head.ways.join(', ')], ['tower, s', tower, '', '']],
    ),
  ].join('\n');
}

/** The figures to reach. */
export function reportRatios(facts: Facts, bare: BareProducts): string {
  const { blocks, text, budgets } = facts;
  const rows: string[][] = [];
  const full = budgets.find(({ tokens }) => tokens === PATCHES);
  const add = (what: string, here: string, bound: string, value: string, met: boolean) => rows.push([what, here, bound, value, met ? 'yes' : 'NO']);
  for (const budget of budgets) {
    const count = budget.tokens + text;
    const ratio = (blocks * bare.of('block', count).ms) / budget.prefill;
    add(`prefill of ${count}, rate over bare products`, percent(ratio), '85%', '', ratio >= 0.85);
  }
  for (const budget of budgets) {
    const ratio = bare.step / stepOf(facts, budget);
    add(`a token behind ${budget.tokens + text}, rate over bare products`, percent(ratio), '85%', '', ratio >= 0.85);
  }
  for (const budget of budgets) {
    if (!full || budget === full) continue;
    const here = budget.firstToken / full.firstToken;
    const alone = bare.firstToken(budget.tokens, text) / bare.firstToken(PATCHES, text);
    const value = `${here.toFixed(3)} here, ${alone.toFixed(3)} bare`;
    add(`first token at ${budget.tokens} over ${PATCHES}, over the bare ratio`, (here / alone).toFixed(2), '1.10', value, here / alone <= 1.1);
  }
  for (const budget of budgets) {
    if (budget.tokens === PATCHES) continue;
    const share = budget.select / budget.firstToken;
    add(`select ${budget.tokens}, ms`, budget.select.toFixed(1), '30, 1%', percent(share, 2), budget.select <= 30 && share <= 0.01);
  }
  return table(['figure', 'here', 'bound', 'detail', 'met'], rows);
}
