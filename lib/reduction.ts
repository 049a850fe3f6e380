import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../layers/errors';
import type { Segment } from '../layers/tap';
import { type Live, positionsIn, type ReductionHook, type ReductionPoint, segmentsOf } from './live';
import type { Reduction } from './prune/types';
import { SequenceView } from './sequence_view';

/** Notes what enters the block about to run: positions, and for pruners that read them later the states. */
export function noteBlockInput(block: number, states: tf.Tensor2D, lives: readonly Live[]): void {
  for (const [i, { start, length }] of segmentsOf(lives).entries()) {
    const live = lives[i] as Live;
    live.positions = positionsIn(block, live);
    if (!live.input.pruning?.blockInput || live.visualRows.length === 0) continue;
    tf.dispose(live.lastInput?.states);
    live.lastInput = { block, states: tf.slice(states, [start, 0], [length, -1]), positions: live.positions };
  }
}

/**
 * Asks every pruner; returns the remaining rows of what flows on (in `afterAttention` that is `between`, else the states), or undefined when nobody dropped
 * or merged any.
 */
export async function reduceAll(
  point: ReductionPoint,
  lives: readonly Live[],
  states: tf.Tensor2D,
  between: tf.Tensor2D = states,
): Promise<tf.Tensor2D | undefined> {
  const rows: number[] = [];
  const merged: tf.Tensor2D[] = [];
  let next = states.shape[0]; // where merged rows begin, behind all others
  let changed = false;
  try {
    for (const [i, segment] of segmentsOf(lives).entries()) {
      const live = lives[i] as Live;
      const reduction = await ask(point, live, segment, states, between);
      if (reduction?.merged) merged.push(reduction.merged.states); // also when it is refused: it is to be freed
      const order = reduction && newOrder(reduction, live, between.shape[1], point.hook);
      if (order && reduction) {
        for (const row of order) rows.push(row >= 0 ? segment.start + row : next - row - 1);
        next += reduction.merged?.places.length ?? 0;
        carryOut(live, order, reduction);
        changed = true;
      } else {
        for (let row = 0; row < segment.length; row++) rows.push(segment.start + row);
      }
    }
    if (!changed) return undefined;
    return tf.tidy(() => tf.gather(merged.length > 0 ? tf.concat([between, ...merged], 0) : between, tf.tensor1d(rows, 'int32')));
  } finally {
    tf.dispose(merged);
  }
}

async function ask(point: ReductionPoint, live: Live, segment: Segment, states: tf.Tensor2D, between: tf.Tensor2D): Promise<Reduction | undefined> {
  const run = live.input.pruning?.run;
  if (!run?.[point.hook] || live.visualRows.length === 0) return undefined;
  const view = new SequenceView(point, live, segment, states, between);
  try {
    return await run[point.hook]?.(view);
  } finally {
    view.dispose();
  }
}

/**
 * Rows of the sequence in their new order: old ones by their number, merged ones as -1, -2, … behind the last visual token; undefined when all stays as it is.
 * The last row always stays, and stays last: its logits are the answer. @throws PruneError `BAD_REDUCTION`
 */
function newOrder({ keep, merged }: Reduction, live: Live, width: number, hook: ReductionHook): number[] | undefined {
  const count = live.visualRows.length;
  const stays = new Uint8Array(live.places.length).fill(1);
  for (const row of live.visualRows) stays[row] = row === stays.length - 1 ? 1 : 0;
  let last = -1;
  for (const index of keep) {
    const row = live.visualRows[index];
    if (row === undefined || index <= last) {
      throw new PruneError(
        'BAD_REDUCTION',
        `A pruner kept visual token ${index} of ${count} after ${last}: indices must be inside the current tokens and ascending.`,
      );
    }
    last = index;
    stays[row] = 1;
  }
  if (merged) checkMerged(merged, count, width, hook);
  const more = merged?.places.length ?? 0;
  if (more === 0 && stays.every((stay) => stay === 1)) return undefined;
  const order: number[] = [];
  const behind = Math.min((live.visualRows[count - 1] as number) + 1, stays.length - 1);
  for (const row of stays.keys()) {
    if (row === behind) for (let i = 0; i < more; i++) order.push(-1 - i);
    if (stays[row] === 1) order.push(row);
  }
  return order;
}

function checkMerged({ states, places }: NonNullable<Reduction['merged']>, count: number, width: number, hook: ReductionHook): void {
  if (hook === 'afterAttention')
    throw new PruneError('BAD_REDUCTION', 'A pruner merged tokens between attention and MLP. Merge before or after a block.');
  if (states.shape[0] !== places.length || states.shape[1] !== width) {
    throw new PruneError('BAD_REDUCTION', `A pruner merged states [${states.shape}] for ${places.length} places; give [${places.length}, ${width}].`);
  }
  const bad = places.find((place) => place < 0 || place >= count);
  if (bad !== undefined) throw new PruneError('BAD_REDUCTION', `A pruner gave a merged token the place of visual token ${bad} of ${count}.`);
}

function carryOut(live: Live, order: readonly number[], { merged }: Reduction): void {
  tf.dispose(live.lastInput?.states); // its rows are no longer those of the sequence
  live.lastInput = undefined;
  const before = new Map(Array.from(live.visualRows, (row, index) => [row, index]));
  const rows: number[] = []; // for each new row, the old one whose place it has
  const visualRows: number[] = [];
  const originalIndices: number[] = [];
  for (const [row, from] of order.entries()) {
    const index = from >= 0 ? before.get(from) : (merged?.places[-1 - from] as number);
    rows.push(from >= 0 ? from : (live.visualRows[index as number] as number));
    if (index === undefined) continue;
    visualRows.push(row);
    originalIndices.push(from >= 0 ? (live.originalIndices[index] as number) : -1);
  }
  live.places = Int32Array.from(rows, (row) => live.places[row] as number);
  live.positions = Int32Array.from(rows, (row) => live.positions[row] as number);
  live.visualRows = Int32Array.from(visualRows);
  live.originalIndices = Int32Array.from(originalIndices);
}
