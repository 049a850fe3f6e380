import * as tf from '@tensorflow/tfjs';
import { causalMask } from '../../../layers/attention';
import type { Llama } from '../../../layers/llama';
import type { ReductionHook } from '../../../lib/live';
import type { DecoderView, PruningRun, Reduction } from '../../../lib/prune/types';

/** What one cut makes of the visual tokens at hand, by their indices among them. */
export interface Cut {
  readonly keep: readonly number[];
  /** Each merged token is the mean of these. */
  readonly groups?: readonly (readonly number[])[];
  /** Whose position each merged token takes. */
  readonly places?: readonly number[];
}

export interface PlannedCut {
  readonly block: number;
  readonly hook: ReductionHook;
  readonly plan: (count: number) => Cut;
}

/** A run that carries out planned cuts; `see` is shown every view. */
export function cutting(cuts: readonly PlannedCut[], see: (hook: ReductionHook, view: DecoderView) => void = () => {}): PruningRun {
  const at = (hook: ReductionHook) => (view: DecoderView) => {
    see(hook, view);
    const cut = cuts.find((one) => one.block === view.block && one.hook === hook);
    return Promise.resolve(cut && reductionOf(cut.plan(view.visualRows.length), view));
  };
  return { beforeBlock: at('beforeBlock'), afterAttention: at('afterAttention'), afterBlock: at('afterBlock'), dispose() {} };
}

export function reductionOf({ keep, groups, places }: Cut, view: DecoderView): Reduction {
  if (!groups || !places) return { keep: Int32Array.from(keep) };
  const states = tf.tidy(() => {
    const visual = tf.gather(view.states, tf.tensor1d(view.visualRows, 'int32'));
    return tf.stack(groups.map((group) => tf.mean(tf.gather(visual, tf.tensor1d([...group], 'int32')), 0))) as tf.Tensor2D;
  });
  return { keep: Int32Array.from(keep), merged: { states, places: Int32Array.from(places) } };
}

interface Row {
  readonly values: readonly number[];
  readonly place: number;
  /** -1 for a merged one; undefined for text. */
  readonly original?: number;
}

export interface HandRun {
  readonly states: readonly (readonly number[])[];
  readonly originals: readonly number[];
  readonly entering: readonly number[];
  /** Position ids of all rows in each block. */
  readonly positions: readonly (readonly number[])[];
}

/**
 * The decoder by hand: whole blocks without caches, one after another, and between them rows taken out and put in in plain arrays. What is dropped between
 * attention and MLP is taken out behind the block, which comes to the same.
 */
export async function handRun(
  llama: Llama,
  states: tf.Tensor2D,
  visualRows: Int32Array,
  cuts: readonly PlannedCut[],
  policy: 'keep' | 'compact',
): Promise<HandRun> {
  const visual = new Map(Array.from(visualRows, (row, i) => [row, i]));
  let rows: Row[] = ((await states.array()) as number[][]).map((values, place) => {
    const original = visual.get(place);
    return { values, place, ...(original === undefined ? {} : { original }) };
  });
  const entering: number[] = [];
  const positions: number[][] = [];
  for (const [k, block] of llama.blocks.entries()) {
    for (const { plan } of cuts.filter((cut) => cut.block === k && cut.hook === 'beforeBlock')) rows = carriedOut(rows, plan);
    entering.push(rows.filter(({ original }) => original !== undefined).length);
    const ids = rows.map(({ place }, i) => (policy === 'keep' ? place : i));
    positions.push(ids);
    const output = tf.tidy(() => {
      const length = rows.length;
      const x = tf.tensor2d(rows.map(({ values }) => [...values]));
      const context = { segments: [{ start: 0, length }], masks: [causalMask(length, length)], positions: Int32Array.from(ids) };
      return block.apply(x, { ...context, rotary: llama.rotary.table(Int32Array.from(ids)) });
    });
    const values = (await output.array()) as number[][];
    output.dispose();
    rows = rows.map((row, i) => ({ ...row, values: values[i] as number[] }));
    for (const hook of ['afterAttention', 'afterBlock']) {
      for (const { plan } of cuts.filter((cut) => cut.block === k && cut.hook === hook)) rows = carriedOut(rows, plan);
    }
  }
  const originals = rows.flatMap(({ original }) => (original === undefined ? [] : [original]));
  return { states: rows.map(({ values }) => values), originals, entering, positions };
}

function carriedOut(rows: readonly Row[], plan: (count: number) => Cut): Row[] {
  const visual = rows.filter(({ original }) => original !== undefined);
  if (visual.length === 0) return [...rows];
  const { keep, groups = [], places = [] } = plan(visual.length);
  const kept = new Set(keep.map((index) => visual[index]));
  const merged = groups.map((group, i): Row => {
    const values = (visual[0] as Row).values.map((_, column) => {
      const sum = group.reduce((total, index) => total + ((visual[index] as Row).values[column] as number), 0);
      return sum / group.length;
    });
    return { values, place: (visual[places[i] as number] as Row).place, original: -1 };
  });
  const last = rows.indexOf(visual.at(-1) as Row);
  const stays = (row: Row) => row.original === undefined || kept.has(row);
  return [...rows.slice(0, last + 1).filter(stays), ...merged, ...rows.slice(last + 1)];
}

/** The same cut whatever is there. */
export const constant =
  (cut: Cut): PlannedCut['plan'] =>
  () =>
    cut;
