import * as tf from '@tensorflow/tfjs';
import { bytesOf, toFloat32 } from '../../weights/dtype';
import type { Pause } from '../../weights/pacer';
import type { StoredWeight } from '../../weights/sources';

/** Weights in one tensor at most, 64 MiB: what goes to the backend between two pauses. */
const PIECE = 2 ** 24;

/** Values converted between two pauses: about 20 ms. */
const STEP = 2 ** 20;

/** Square of a transposition that stays in the cache. */
const TILE = 32;

/** Rows `start` and on of a stored matrix [rows, columns]. */
export interface Piece {
  readonly start: number;
  readonly length: number;
  /** [length, columns], or turned: [columns, length]. */
  readonly tensor: tf.Tensor2D;
}

/**
 * A stored matrix [rows, columns] as float32 tensors, one where it is not very large. Turned ones are made ready for products: wasm copies a weight into
 * an order of its own when it first multiplies by it, which would hold up the first answer.
 */
export async function upload(
  weight: StoredWeight,
  [rows, columns]: readonly [number, number],
  options: { readonly turned: boolean },
  pause: Pause,
): Promise<Piece[]> {
  const pieces: Piece[] = [];
  try {
    const count = Math.max(1, Math.ceil((rows * columns) / PIECE));
    for (let i = 0; i < count; i++) {
      const start = Math.round((i * rows) / count);
      const length = Math.round(((i + 1) * rows) / count) - start;
      const values = await converted(weight, columns, { start, length, turned: options.turned }, pause);
      const tensor = tf.tensor2d(values, options.turned ? [columns, length] : [length, columns]);
      pieces.push({ start, length, tensor });
      await pause();
      if (!options.turned || tf.getBackend() !== 'wasm') continue;
      tf.dispose(tf.tidy(() => tf.matMul(tf.zeros<tf.Rank.R2>([1, columns]), tensor)));
      await pause();
    }
    return pieces;
  } catch (error) {
    for (const { tensor } of pieces) tensor.dispose();
    throw error;
  }
}

async function converted(
  { dtype, bytes }: StoredWeight,
  columns: number,
  { start, length, turned }: { readonly start: number; readonly length: number; readonly turned: boolean },
  pause: Pause,
): Promise<Float32Array> {
  const result = new Float32Array(length * columns);
  const rowBytes = columns * bytesOf(dtype);
  const step = Math.max(TILE, Math.floor(STEP / columns));
  for (let top = 0; top < length; top += step) {
    const bottom = Math.min(top + step, length);
    const values = toFloat32(dtype, bytes.subarray((start + top) * rowBytes, (start + bottom) * rowBytes));
    if (turned) turnInto(result, values, { top, rows: bottom - top, columns, stride: length });
    else result.set(values, top * columns);
    await pause();
  }
  return result;
}

/** Puts rows [rows, columns] where they belong as columns `top` and on of a result [columns, stride]. */
function turnInto(
  result: Float32Array,
  values: Float32Array,
  { top, rows, columns, stride }: { readonly top: number; readonly rows: number; readonly columns: number; readonly stride: number },
): void {
  for (let above = 0; above < rows; above += TILE) {
    const below = Math.min(above + TILE, rows);
    for (let left = 0; left < columns; left += TILE) {
      const right = Math.min(left + TILE, columns);
      for (let i = above; i < below; i++) {
        for (let j = left; j < right; j++) result[j * stride + top + i] = values[i * columns + j] as number;
      }
    }
  }
}
