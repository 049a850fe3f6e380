import { PruneError } from '../../layers/errors';
import type { Grid } from './grid';
import { descendingOrder } from './ranking';
import type { WeightedSum } from './weighted_sums';

/**
 * VFlowOpt's importance of patches: what the calibrating ones among them attend to. Those are the patches that receive more than `threshold` times the
 * mean attention; where no patch does, all of them.
 *
 * @param attention [N, N], row-major: of patch i to patch j, averaged over heads
 * @returns [N]
 * @throws PruneError `ATTENTION_NOT_FINITE`
 */
export function importanceMap(attention: Float32Array, size: number, threshold: number): Float32Array {
  const received = new Float64Array(size);
  for (let row = 0; row < size; row++) for (let column = 0; column < size; column++) received[column]! += attention[row * size + column]! / size;
  const bad = received.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new PruneError(
      'ATTENTION_NOT_FINITE',
      `The attention that patch ${bad} of ${size} receives is ${received[bad]}. Look for NaN or overflow in the weights or the image.`,
    );
  }
  const mean = received.reduce((sum, value) => sum + value, 0) / size;
  let calibrating = Int32Array.from(received.keys()).filter((patch) => received[patch]! > threshold * mean);
  if (calibrating.length === 0) calibrating = Int32Array.from(received.keys());
  return Float32Array.from({ length: size }, (_, column) => {
    const sum = calibrating.reduce((total, row) => total + attention[row * size + column]!, 0);
    return sum / calibrating.length;
  });
}

/** Cells of `cell` patches a side, which need not be whole: how many patches' cells there are in a grid. */
export function cellCount({ rows, columns }: Grid, cell: number): number {
  return (Math.floor((rows - 1) / cell) + 1) * (Math.floor((columns - 1) / cell) + 1);
}

/**
 * VFlowOpt's recycling: the lowest patches are merged, those in one cell of the grid into one token, in which each weighs as much as its importance; the
 * token stands in the place of the most important of them. As few patches are merged as leave `tokens` in all.
 *
 * @param tokens from `cellCount` to N
 * @returns tokens in raster order of the patches that they stand for; `rows[0]` of each is that one
 */
export function recycle(importance: Float32Array, grid: Grid, cell: number, tokens: number): WeightedSum[] {
  const size = importance.length;
  const across = Math.floor((grid.columns - 1) / cell) + 1;
  const cellOf = (patch: number) => Math.floor(Math.floor(patch / grid.columns) / cell) * across + Math.floor((patch % grid.columns) / cell);
  const order = descendingOrder(importance);
  const groups = new Map<number, number[]>(); // by cell, from the most important on
  let kept = size;
  for (; kept + groups.size > tokens; kept--) {
    const patch = order[kept - 1]!;
    const group = groups.get(cellOf(patch)) ?? [];
    group.unshift(patch);
    groups.set(cellOf(patch), group);
  }
  const alone = Array.from(order.subarray(0, kept), (patch) => ({ rows: Int32Array.of(patch), weights: Float32Array.of(1) }));
  const merged = Array.from(groups.values(), (patches) => {
    const sum = patches.reduce((total, patch) => total + importance[patch]!, 0);
    const weights = Float32Array.from(patches, (patch) => (sum > 0 ? importance[patch]! / sum : 1 / patches.length)); // attention may vanish in float32
    return { rows: Int32Array.from(patches), weights };
  });
  return [...alone, ...merged].sort((a, b) => a.rows[0]! - b.rows[0]!);
}
