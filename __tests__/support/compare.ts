import type * as tf from '@tensorflow/tfjs';
import type { Recorded } from './recorded';

/** How far float32 results of two implementations may be apart, per unit of the largest value. */
export const TOLERANCE = 1e-4;

/**
 * Fails with the first differing values and the largest difference. Shapes may differ by leading ones (a batch of one).
 * |difference| <= tolerance x max(1, largest |expected|)
 */
export async function expectClose(actual: tf.Tensor, expected: Recorded | tf.Tensor, what: string, tolerance: number = TOLERANCE): Promise<void> {
  const wanted = 'values' in expected ? expected : { shape: expected.shape, values: Float32Array.from(await expected.data()) };
  const report = mismatch(Float32Array.from(await actual.data()), actual.shape, wanted, tolerance);
  if (report) throw new Error(`${what}: ${report}`);
}

/** Like `expectClose`, for values that must be the same bit by bit. */
export async function expectSame(actual: tf.Tensor, expected: Recorded | tf.Tensor, what: string): Promise<void> {
  await expectClose(actual, expected, what, 0);
}

function mismatch(actual: Float32Array, shape: readonly number[], expected: Recorded, tolerance: number): string | undefined {
  if (withoutLeadingOnes(shape) !== withoutLeadingOnes(expected.shape)) return `shape [${shape.join(', ')}], expected [${expected.shape.join(', ')}]`;
  const largest = expected.values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const allowed = tolerance * Math.max(1, largest);
  const differing: string[] = [];
  let [count, worst] = [0, 0];
  for (const [i, value] of expected.values.entries()) {
    const difference = Math.abs((actual[i] as number) - value);
    if (difference <= allowed) continue; // NaN is not
    count++;
    if (!(difference <= worst)) worst = difference;
    if (differing.length < 5) differing.push(`  [${place(i, expected.shape).join(', ')}] is ${actual[i]}, expected ${value}`);
  }
  if (count === 0) return undefined;
  const summary = `${count} of ${expected.values.length} values differ by more than ${allowed.toExponential(2)}, by ${worst.toExponential(2)} at most`;
  return `${summary} (largest value ${largest.toPrecision(4)}). The first:\n${differing.join('\n')}`;
}

function withoutLeadingOnes(shape: readonly number[]): string {
  const first = shape.findIndex((size) => size !== 1);
  return first < 0 ? '' : shape.slice(first).join(' ');
}

function place(index: number, shape: readonly number[]): number[] {
  const result: number[] = [];
  let rest = index;
  for (const size of [...shape].reverse()) {
    result.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return result;
}
