import type * as tf from '@tensorflow/tfjs';
import type { Llama } from '../layers/llama';
import type { Segment } from '../layers/tap';
import type { Pause } from './pacer';
import type { PruningRun, VisualOrigins } from './prune/types';
import type { Sequence } from './sequence';

export type ReductionHook = 'beforeBlock' | 'afterAttention' | 'afterBlock';

/** Where in a pass pruners are asked. */
export interface ReductionPoint {
  readonly llama: Llama;
  readonly block: number;
  readonly hook: ReductionHook;
  readonly pause: Pause;
}

/** New tokens of one sequence. */
export interface PrefillInput {
  readonly sequence: Sequence;
  /** Embeddings [S, D]; borrowed. */
  readonly states: tf.Tensor2D;
  /** Which of the S rows are visual tokens, ascending. */
  readonly visualRows: Int32Array;
  /** Where each visual token comes from; of one crop's patches in order, unless it is given. */
  readonly origins?: VisualOrigins;
  /** The rows' places among the tokens that there were before patches were chosen, and how many those are; absent where the rows are all that counts. */
  readonly unpruned?: { readonly places: Int32Array; readonly length: number };
  readonly pruning?: { readonly run: PruningRun; readonly blockInput: boolean };
}

/** What is left of a sequence's new tokens at some block. */
export interface Live {
  readonly input: PrefillInput;
  readonly origins: VisualOrigins;
  /** The remaining rows' places among the new tokens; a merged row has that of another. */
  places: Int32Array;
  visualRows: Int32Array;
  /** -1 for merged ones. */
  originalIndices: Int32Array;
  /** Position ids of the remaining rows in the block that runs or ran last. */
  positions: Int32Array;
  /** What entered the block that ran last, where a pruner reads it and no row was dropped or merged since. */
  lastInput?: BlockInput | undefined;
  /** What each block so far holds in its cache, where a pruner will cut caches. */
  readonly cached: CachedTokens[];
}

export interface BlockInput {
  readonly block: number;
  readonly states: tf.Tensor2D;
  readonly positions: Int32Array;
}

/** Visual tokens in one block's cache: their indices in it, and their original indices. */
export interface CachedTokens {
  readonly tokens: Int32Array;
  readonly originalIndices: Int32Array;
}

export function newLive(input: PrefillInput): Live {
  const places = input.unpruned?.places ?? Int32Array.from({ length: input.states.shape[0] }, (_, i) => i);
  const originalIndices = Int32Array.from(input.visualRows.keys());
  const origins = input.origins ?? { crops: new Int32Array(originalIndices.length), patches: originalIndices };
  return { input, origins, places, visualRows: input.visualRows, originalIndices, positions: places, cached: [] };
}

/** Position ids of the remaining rows in a block that has not run yet. */
export function positionsIn(block: number, { input: { sequence }, places }: Live): Int32Array {
  const first = sequence.nextPosition(block);
  return places.map((place, i) => first + (sequence.positions === 'keep' ? place : i));
}

export function segmentsOf(lives: readonly Live[]): Segment[] {
  let start = 0;
  return lives.map(({ places: { length } }) => {
    const segment = { start, length };
    start += length;
    return segment;
  });
}

/** The last row of each segment. */
export function lastRowsOf(segments: readonly Segment[]): Int32Array {
  return Int32Array.from(segments, ({ start, length }) => start + length - 1);
}
