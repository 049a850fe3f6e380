import type * as tf from '@tensorflow/tfjs';
import { finish, Pacer, type Pause, paced, type Steps } from '../pacer';
import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { checkPositions, wholeNumber } from './checks';
import type { Method } from './method';
import { checkSimilarity, cosineSimilarity } from './similarity';

/** `positions`: of the kept tokens; default `compact`, as in the released code. */
export type DivPruneOptions = { readonly method: 'divprune'; readonly positions?: 'compact' | 'keep' } & Budget;

/** Distances looked at between two pauses: about 20 ms. */
const STEP = 2 ** 22;

/**
 * DivPrune (Alvar et al., CVPR 2025, https://arxiv.org/abs/2503.02175): the subset whose members lie as far from one another as can be, found greedily
 * (the max-min diversity problem), with 1 - cosine as the distance. The first is the token whose nearest other one is farthest away; then, time after
 * time, the one farthest from its nearest chosen one.
 *
 * @param tokens [N, D], projected; borrowed
 * @param count tokens to keep: whole, 1 or more. Where there are fewer, all are kept.
 * @param pause awaited between steps of the work; whatever it throws ends it
 * @returns kept tokens, ascending
 * @throws PruneError `TOKENS_INVALID`, `FEATURES_NOT_FINITE`
 */
export async function divPrune(tokens: tf.Tensor2D, count: number, pause: Pause = new Pacer().pause): Promise<Int32Array> {
  const similarity = await cosineSimilarity(tokens, pause);
  try {
    return await paced(farthest((await similarity.data()) as Float32Array, tokens.shape[0], count), pause);
  } finally {
    similarity.dispose();
  }
}

/**
 * The choice of `divPrune` without tensors.
 *
 * @param similarity [N, N], row-major: cosines of the tokens among themselves
 * @returns kept tokens, ascending: min(count, N) of them
 * @throws PruneError as `divPrune`; `FEATURE_SHAPE`
 */
export function selectDiverse(similarity: Float32Array, size: number, count: number): Int32Array {
  return finish(farthest(similarity, size, count));
}

function* farthest(similarity: Float32Array, size: number, count: number): Steps<Int32Array> {
  const kept = Math.min(wholeNumber(count, 'tokens', 'TOKENS_INVALID', 1), size);
  checkSimilarity(similarity, size);
  const chosen = new Int32Array(kept);
  // One half of the matrix: two tokens that are each other's nearest have to tie, and a product may round its halves differently.
  const between = (a: number, b: number): number => similarity[a < b ? a * size + b : b * size + a]!;
  const nearest = new Float32Array(size); // the highest similarity to another token, then to a chosen one: the distance is 1 minus that
  for (let row = 0; row < size; row++) {
    let highest = Number.NEGATIVE_INFINITY;
    for (let other = 0; other < size; other++) if (other !== row) highest = Math.max(highest, between(row, other));
    nearest[row] = highest;
    if ((row * size) % STEP > ((row + 1) * size) % STEP) yield;
  }
  chosen[0] = lowest(nearest);
  nearest.fill(Number.NEGATIVE_INFINITY);
  for (let i = 1; i < kept; i++) {
    const last = chosen[i - 1]!;
    for (let row = 0; row < size; row++) nearest[row] = Math.max(nearest[row]!, between(last, row));
    nearest[last] = Number.POSITIVE_INFINITY; // and so for good: never chosen twice
    chosen[i] = lowest(nearest);
    if ((i * size) % STEP > ((i + 1) * size) % STEP) yield;
  }
  return chosen.sort();
}

/** The place of the lowest value; of equal ones the first. */
function lowest(values: Float32Array): number {
  let place = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! < values[place]!) place = i;
  return place;
}

export const divPruneMethod: Method<DivPruneOptions> = {
  options: [...BUDGET_OPTIONS, 'positions'],
  about: {
    title: 'DivPrune',
    acts: 'between projector and decoder, each crop by itself',
    reads: 'cosine similarity of the projected tokens',
    entering: 'T',
    source: 'Alvar et al., CVPR 2025, [arXiv 2503.02175](https://arxiv.org/abs/2503.02175); vbdi/divprune @ 799e2d95',
    grade: 'exact',
    differences: [
      'The budget is a count, or a ratio rounded halves up; the released code rounds halves to even. The published 9.8% of 576 are 56 by both.',
      'Similarities are float32 and a token is never its own neighbour; in half precision the released code may take it for one.',
      'Of equally distant tokens the lower index is chosen, and none twice, also where all that are left are duplicates of chosen ones.',
      'A row of zeros has similarity 0 to every other; the released code divides by zero.',
      'Each crop is thinned by itself; the released code thins one run of visual tokens at a fixed offset of the sequence.',
    ],
  },
  example: { method: 'divprune', tokens: 56 },
  forAverage: (average) => ({ method: 'divprune', tokens: wholeTokens(average) }),
  create: ({ positions = 'compact', ...budget }) =>
    beforeDecoder({
      name: 'divprune',
      count: tokenCount(budget),
      positions: checkPositions(positions),
      needs: () => ({ attention: [] }),
      select: async (view, count) => divPrune(await view.projected(), count, view.pause),
    }),
};
