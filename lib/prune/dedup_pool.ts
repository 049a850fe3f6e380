import { finish, type Steps } from '../pacer';

/** Comparisons between two pauses: about 20 ms. */
const STEP = 2 ** 22;

/**
 * VisPruner's second step (arXiv 2412.01818): thins `pool` down to `keep` tokens by removing, round after round, those that resemble another one most.
 * In each round the pool's even places are candidates and its odd places their partners; a candidate scores its highest similarity to any partner,
 * the `step` highest-scoring candidates leave, and the rest stand before the partners, in falling order of score, in the next round.
 *
 * Differs from the released code: an odd pool, or one with fewer candidates than there are to remove, is thinned by what can be removed
 * (there it is an index error); equal scores keep their order (there the sort is not stable).
 *
 * @param similarity [size, size], row-major, by token index; not NaN
 * @param pool distinct token indices, by falling attention; left as it is
 * @param keep 1 to pool.length
 * @param step tokens removed in a round, 1 or more
 * @returns the `keep` tokens that are left, in the order of the last round
 */
export function dedupPool(similarity: Float32Array, size: number, pool: Int32Array, keep: number, step: number): Int32Array {
  return finish(dedupSteps(similarity, size, pool, keep, step));
}

/** The same, in steps: thousands of tokens take seconds. */
export function* dedupSteps(similarity: Float32Array, size: number, pool: Int32Array, keep: number, step: number): Steps<Int32Array> {
  const current = pool.slice();
  const half = (pool.length + 1) >> 1;
  const candidates = new Int32Array(half);
  const partners = new Int32Array(half);
  const scores = new Float32Array(half);

  let length = pool.length;
  let compared = 0;
  while (length > keep) {
    const candidateCount = (length + 1) >> 1;
    const partnerCount = length >> 1; // at least 1, because length > keep >= 1
    for (let i = 0; i < partnerCount; i++) partners[i] = current[2 * i + 1]!;

    // Insertion sort, descending and stable, while the scores are found; it costs less than they do.
    for (let i = 0; i < candidateCount; i++) {
      const candidate = current[2 * i]!;
      const row = candidate * size;
      let score = Number.NEGATIVE_INFINITY;
      for (let j = 0; j < partnerCount; j++) {
        const cosine = similarity[row + partners[j]!]!;
        if (cosine > score) score = cosine;
      }
      let place = i;
      for (; place > 0 && scores[place - 1]! < score; place--) {
        scores[place] = scores[place - 1]!;
        candidates[place] = candidates[place - 1]!;
      }
      scores[place] = score;
      candidates[place] = candidate;
    }

    const removed = Math.min(step, length - keep, candidateCount);
    current.set(candidates.subarray(removed, candidateCount), 0);
    current.set(partners.subarray(0, partnerCount), candidateCount - removed);
    length -= removed;

    compared += candidateCount * partnerCount;
    if (compared >= STEP) {
      compared = 0;
      yield;
    }
  }
  return current.slice(0, length);
}
