import * as tf from '@tensorflow/tfjs';
import { checkScores } from './checks';
import type { Grid } from './grid';
import type { EncoderReducer, EncoderView, RowGroups } from './merging';
import { unitRows } from './similarity';

/** Windows of `size` x `size` patches, side by side from the upper left corner; what is left at the other edges is in none. Patches in raster order. */
export function wholeWindows({ rows, columns }: Grid, size: number): Int32Array[] {
  const across = Math.floor(columns / size);
  return Array.from({ length: Math.floor(rows / size) * across }, (_, window) => {
    const [top, left] = [Math.floor(window / across) * size, (window % across) * size];
    return Int32Array.from({ length: size * size }, (_, i) => (top + Math.floor(i / size)) * columns + left + (i % size));
  });
}

/** Each window that is to become one row, each other patch by itself; rows in the raster order of their first patches. */
export function windowGroups(patches: number, windows: readonly Int32Array[], merges: (window: number) => boolean): RowGroups {
  const group = new Int32Array(patches).fill(-1);
  const windowOf = new Int32Array(patches).fill(-1);
  for (const [window, members] of windows.entries()) if (merges(window)) for (const patch of members) windowOf[patch] = window;
  let rows = 0;
  for (let patch = 0; patch < patches; patch++) {
    if (group[patch] !== -1) continue;
    const window = windowOf[patch] as number;
    for (const member of window < 0 ? [patch] : (windows[window] as Int32Array)) group[member] = rows;
    rows++;
  }
  return { group, rows };
}

/** Merges, behind encoder block 0, windows whose patches' states have a mean cosine of `similarity` or more, over all pairs of two patches. */
export function windowMerging(size: number, similarity: number): EncoderReducer {
  return {
    key: `windows of ${size} x ${size} at ${similarity}`,
    weighted: false,
    async afterBlock(view) {
      if (view.block !== 0) return undefined;
      const windows = wholeWindows(view.grid, size);
      const cosines = await meanCosines(view, windows);
      const merges = (window: number) => (cosines[window] as number) >= similarity;
      return windows.some((_, window) => merges(window)) ? windowGroups(view.members.length, windows, merges) : undefined;
    },
  };
}

/** Unit vectors of a sum s, m of them not zero, have cosines of s . s - m in all. */
async function meanCosines({ states, members }: EncoderView, windows: readonly Int32Array[]): Promise<Float32Array> {
  if (windows.length === 0) return new Float32Array(0);
  const [count, width] = [members.length, states.shape[1]];
  const sums = tf.tidy(() => {
    const unit = unitRows(tf.slice(states, [1, 0], [count, -1])); // without the class token
    const inWindow = new Float32Array(windows.length * count);
    for (const [window, patches] of windows.entries()) for (const patch of patches) inWindow[window * count + patch] = 1;
    const all = tf.matMul(tf.tensor2d(inWindow, [windows.length, count]), tf.concat([unit, tf.sum(tf.square(unit), 1, true)], 1));
    const [direction, lengths] = tf.split(all, [width, 1], 1) as [tf.Tensor2D, tf.Tensor2D];
    return tf.sub(tf.sum(tf.square(direction), 1, true), lengths); // [windows, 1]
  });
  try {
    const pairs = (windows[0] as Int32Array).length * ((windows[0] as Int32Array).length - 1);
    const cosines = Float32Array.from((await sums.data()) as Float32Array, (sum) => sum / pairs);
    checkScores(cosines);
    return cosines;
  } finally {
    sums.dispose();
  }
}
