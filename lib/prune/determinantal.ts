import { PruneError } from '../../layers/errors';
import type { Steps } from '../pacer';
import { wholeNumber } from './checks';
import { checkSimilarity } from './similarity';

/** Multiplications between two pauses: about 20 ms. */
const STEP = 2 ** 23;

/**
 * The subset of tokens that a determinantal point process finds most probable, greedily (Chen et al. 2018, https://arxiv.org/abs/1709.05135): with the
 * kernel L_ij = q_i S_ij q_j, time after time the token that adds most to the logarithm of the determinant of the chosen ones' kernel, by one row of its
 * Cholesky factor each.
 *
 * Where the chosen tokens span all others, what is left adds nothing but rounding: a volume that is not positive gives no further row.
 *
 * @param similarity S [size, size], row-major: cosines of the tokens among themselves
 * @param quality q [size], 0 or more
 * @param count tokens to choose, 1 to size
 * @returns the chosen tokens, in the order of their choice
 * @throws PruneError `TOKENS_INVALID`; `FEATURE_SHAPE`, `FEATURES_NOT_FINITE`, `ATTENTION_NOT_FINITE` (a quality that is NaN)
 */
export function* determinantalSteps(similarity: Float32Array, size: number, quality: Float64Array, count: number): Steps<Int32Array> {
  wholeNumber(count, 'tokens', 'TOKENS_INVALID', 1, size);
  checkSimilarity(similarity, size);
  checkQuality(quality, size);
  const volumes = Float64Array.from(quality, (q, i) => q * q * similarity[i * size + i]!); // of each token, what the chosen ones do not span
  const factors: Float64Array[] = []; // rows of the Cholesky factor, [size] each
  const chosen = new Int32Array(count);
  let multiplied = 0;
  for (let i = 0; i < count; i++) {
    const best = largest(volumes);
    chosen[i] = best;
    const volume = volumes[best]!;
    volumes[best] = Number.NEGATIVE_INFINITY; // never chosen again
    if (volume <= 0) continue;
    const row = new Float64Array(size);
    for (let j = 0; j < size; j++) row[j] = quality[best]! * similarity[best * size + j]! * quality[j]!;
    for (const factor of factors) {
      const weight = factor[best]!;
      for (let j = 0; j < size; j++) row[j] = row[j]! - weight * factor[j]!;
    }
    const length = Math.sqrt(volume);
    for (let j = 0; j < size; j++) {
      row[j] = row[j]! / length;
      volumes[j] = volumes[j]! - row[j]! ** 2;
    }
    factors.push(row);
    multiplied += factors.length * size;
    if (multiplied >= STEP) {
      multiplied = 0;
      yield;
    }
  }
  return chosen;
}

/** The place of the largest value; of equal ones the first. */
function largest(values: Float64Array): number {
  let place = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[place]!) place = i;
  return place;
}

function checkQuality(quality: Float64Array, size: number): void {
  if (quality.length !== size) throw new PruneError('FEATURE_SHAPE', `${size} tokens need ${size} relevances, but ${quality.length} are given.`);
  const bad = quality.findIndex((value) => !Number.isFinite(value) || value < 0);
  if (bad >= 0) {
    throw new PruneError(
      'ATTENTION_NOT_FINITE',
      `The relevance of visual token ${bad} of ${size} is ${quality[bad]}. Look for NaN or overflow in the weights, the image or the text.`,
    );
  }
}
