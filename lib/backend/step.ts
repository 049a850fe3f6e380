import * as tf from '@tensorflow/tfjs';
import type { Pause } from '../pacer';
import { currentBackend } from './backends';

/**
 * Floating-point operations that a backend may spend between two pauses: an eighth of a second on two cores, natively a quarter. Less is slower, because
 * each step reads all weights that it uses: a block of a 1.1-billion-parameter Llama takes 5% longer on wasm with 3e9 than in one step, 14% with 2e9,
 * 37% with 1e9; natively, products of 64 rows have two thirds of the rate that those of 200 rows and more have.
 */
const STEP_FLOPS: Readonly<Record<string, number>> = { cpu: 1e8, wasm: 2.5e9, tensorflow: 4e10 };

/** Fewer rows than this are no faster: a product then waits for its weights. */
const LEAST_ROWS = 8;

/** Whether work of so many operations is done in one step. The backends that compute beside JavaScript take all at once. */
export function fitsStep(flops: number): boolean {
  return flops <= stepFlops();
}

/** Rows 0 to `rows` in steps as equal as can be, where a row costs `flops`. */
export function stepsOf(rows: number, flops: number): { readonly start: number; readonly length: number }[] {
  const longest = Math.max(LEAST_ROWS, Math.floor(stepFlops() / flops));
  const count = Math.max(1, Math.ceil(rows / longest));
  const edge = (i: number) => Math.round((i * rows) / count);
  return Array.from({ length: count }, (_, i) => ({ start: edge(i), length: edge(i + 1) - edge(i) }));
}

/** Makes `rows` rows in steps, where a row costs `flops`, with a pause after each. The caller disposes the result. */
export async function inSteps(rows: number, flops: number, make: (start: number, length: number) => tf.Tensor2D, pause: Pause): Promise<tf.Tensor2D> {
  const parts: tf.Tensor2D[] = [];
  try {
    for (const { start, length } of stepsOf(rows, flops)) {
      parts.push(tf.tidy(() => make(start, length)));
      await pause();
    }
    return parts.length === 1 ? (parts.pop() as tf.Tensor2D) : tf.concat(parts, 0);
  } finally {
    tf.dispose(parts);
  }
}

/** Some rows of x; x itself when they are all. Inside a tidy. */
export function rowsOf(x: tf.Tensor2D, start: number, length: number): tf.Tensor2D {
  return length === x.shape[0] ? x : tf.slice(x, [start, 0], [length, -1]);
}

/** Rows of x by their numbers; the caller disposes them. */
export function gatherRows(x: tf.Tensor2D, rows: Int32Array): tf.Tensor2D {
  return tf.tidy(() => tf.gather(x, tf.tensor1d(rows, 'int32')));
}

/** x [R, C] in parts of its columns, each [R, width]. The caller disposes them. */
export function columnsOf(x: tf.Tensor2D, widths: readonly number[]): tf.Tensor2D[] {
  return tf.split(x, [...widths], 1);
}

function stepFlops(): number {
  const unlimited = Number.POSITIVE_INFINITY;
  return currentBackend() === 'cuda' ? unlimited : (STEP_FLOPS[tf.getBackend()] ?? unlimited);
}
