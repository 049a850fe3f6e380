import * as tf from '@tensorflow/tfjs';
import type { Pause } from '../pacer';
import { currentBackend } from './backends';

/** Floating-point operations that a backend may spend between two pauses: about a tenth of a second on two cores. */
const STEP_FLOPS: Readonly<Record<string, number>> = { cpu: 1e8, wasm: 2e9, tensorflow: 2e10 };

/** Fewer rows than this are no faster: a product then waits for its weights. */
const LEAST_ROWS = 8;

/** Rows that go through something in one step, where a row costs `flops`; the backends that compute beside JavaScript take all rows at once. */
export function rowsPerStep(flops: number): number {
  const budget = currentBackend() === 'cuda' ? undefined : STEP_FLOPS[tf.getBackend()];
  return budget === undefined ? Number.POSITIVE_INFINITY : Math.max(LEAST_ROWS, Math.floor(budget / flops));
}

/** Rows 0 to `rows` in steps as equal as can be, none longer than `rowsPerStep(flops)`. */
export function stepsOf(rows: number, flops: number): { readonly start: number; readonly length: number }[] {
  const count = Math.ceil(rows / rowsPerStep(flops)) || 1;
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
