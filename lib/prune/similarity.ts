import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { inSteps, rowsOf } from '../backend/step';
import type { Pause } from '../pacer';

/**
 * Rows [N, C] divided by their lengths. They are scaled by their largest value first, so that squares neither overflow nor vanish; rows of zeros stay zeros.
 * The caller disposes it.
 */
export function unitRows(rows: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => {
    const smallestNormal = 2 ** -126;
    const scaled = tf.div(rows, tf.maximum(tf.max(tf.abs(rows), 1, true), smallestNormal));
    const norms = tf.sqrt(tf.sum(tf.square(scaled), 1, true)); // [N, 1]: 0, or at least 1
    return tf.div(scaled, tf.maximum(norms, 1));
  });
}

/** Cosine of every row of `a` [N, C] with every row of `b` [M, C], by default with those of `a` itself -> [N, M]; the caller disposes it. */
export async function cosineSimilarity(a: tf.Tensor2D, pause: Pause, b: tf.Tensor2D = a): Promise<tf.Tensor2D> {
  const unit = unitRows(a);
  const other = b === a ? unit : unitRows(b);
  const columns = tf.transpose(other); // an explicit transpose: with the flag, wasm leaves its fast path
  try {
    const [size, width] = unit.shape;
    const rowFlops = 2 * width * other.shape[0];
    return await inSteps(size, rowFlops, (start, length) => tf.matMul(rowsOf(unit, start, length), columns), pause);
  } finally {
    tf.dispose([unit, other, columns]);
  }
}

/**
 * @param similarity [size, size], row-major: cosines of features among themselves. NaN or infinity in a feature makes its similarity to itself NaN.
 * @throws PruneError `FEATURES_NOT_FINITE`, `FEATURE_SHAPE`
 */
export function checkSimilarity(similarity: Float32Array, size: number): void {
  if (similarity.length !== size * size) {
    throw new PruneError('FEATURE_SHAPE', `${size} patches have ${size * size} similarities to one another, but ${similarity.length} are given.`);
  }
  for (let row = 0; row < size; row++) {
    if (!Number.isFinite(similarity[row * size + row]!)) {
      throw new PruneError(
        'FEATURES_NOT_FINITE',
        `The features of patch ${row} of ${size} hold NaN or infinity. Look for overflow in the encoder's weights.`,
      );
    }
  }
}
