import * as tf from '@tensorflow/tfjs';
import type { Pause } from '../pacer';
import { currentBackend } from './backends';

/** Floating-point operations that a backend may spend between two pauses: about a tenth of a second on two cores. */
const STEP_FLOPS: Readonly<Record<string, number>> = { cpu: 1e8, wasm: 2e9, tensorflow: 2e10 };

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

/** What turns rows into as many others, each by itself: in steps, with a pause after each. The caller disposes the result. */
export async function inSteps(x: tf.Tensor2D, flops: number, apply: (rows: tf.Tensor2D) => tf.Tensor2D, pause: Pause): Promise<tf.Tensor2D> {
  const parts: tf.Tensor2D[] = [];
  try {
    const steps = stepsOf(x.shape[0], flops);
    for (const { start, length } of steps) {
      parts.push(tf.tidy(() => apply(steps.length === 1 ? x : tf.slice(x, [start, 0], [length, -1]))));
      await pause();
    }
    return parts.length === 1 ? (parts.pop() as tf.Tensor2D) : tf.concat(parts, 0);
  } finally {
    tf.dispose(parts);
  }
}

function stepFlops(): number {
  const unlimited = Number.POSITIVE_INFINITY;
  return currentBackend() === 'cuda' ? unlimited : (STEP_FLOPS[tf.getBackend()] ?? unlimited);
}
