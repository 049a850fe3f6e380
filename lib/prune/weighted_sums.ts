import * as tf from '@tensorflow/tfjs';
import { inSteps } from '../backend/step';
import type { Pause } from '../pacer';

/** A token made of several rows: the sum of `rows[i]` times `weights[i]`. A row may be named more than once. */
export interface WeightedSum {
  readonly rows: Int32Array;
  readonly weights: Float32Array;
}

/** rows [N, C] -> [sums.length, C], as one product; the caller disposes it. */
export async function weightedSums(rows: tf.Tensor2D, sums: readonly WeightedSum[], pause: Pause): Promise<tf.Tensor2D> {
  const [size, width] = rows.shape;
  const make = (start: number, length: number): tf.Tensor2D => {
    const weights = new Float32Array(length * size);
    for (const [i, sum] of sums.slice(start, start + length).entries()) {
      for (const [j, row] of sum.rows.entries()) weights[i * size + row]! += sum.weights[j]!;
    }
    return tf.matMul(tf.tensor2d(weights, [length, size]), rows);
  };
  return await inSteps(sums.length, 2 * size * width, make, pause);
}
