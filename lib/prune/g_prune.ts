import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { finish, Pacer, type Pause, paced, type Steps } from '../pacer';
import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { checkPositions, checkScores, fraction, show, wholeNumber } from './checks';
import type { Method } from './method';
import { highest } from './ranking';
import { checkSimilarity, cosineSimilarity } from './similarity';

export interface GraphOptions {
  /** Least similarity of two tokens that are joined: 0 to 1; default 0.5, as in the code (0.7 in the paper's ablation). */
  readonly threshold?: number;
  /** By which similarities are divided before the softmax: above 0; default 0.03. */
  readonly temperature?: number;
  /** How often information goes along the edges: whole, 0 or more; default 5. */
  readonly rounds?: number;
}

/** `positions`: of the kept tokens; default `keep`, as in the released code. */
export type GPruneOptions = { readonly method: 'g-prune'; readonly positions?: 'compact' | 'keep' } & Budget & GraphOptions;

/** Elements of the graph between two pauses: about 20 ms. */
const STEP = 2 ** 21;

/**
 * G-Prune (Jiang et al., AAAI 2025, https://arxiv.org/abs/2501.02268): tokens are nodes of a graph, joined where they are alike, each to itself too. Each
 * starts with the length of its vector, hands it on `rounds` times in shares of the softmaxed similarities, and scores what it has in the end, divided
 * by the number of its edges. The highest stay.
 *
 * @param tokens [N, D], projected; borrowed
 * @param count tokens to keep: whole, 1 to N
 * @param pause awaited between steps of the work; whatever it throws ends it
 * @returns kept tokens, ascending
 * @throws PruneError `TOKENS_INVALID`, `METHOD_OPTION_INVALID`, `FEATURES_NOT_FINITE`, `ATTENTION_NOT_FINITE`
 */
export async function gPrune(tokens: tf.Tensor2D, count: number, options: GraphOptions = {}, pause: Pause = new Pacer().pause): Promise<Int32Array> {
  const size = tokens.shape[0];
  wholeNumber(count, 'tokens', 'TOKENS_INVALID', 1, size);
  const graph = checkGraph(options);
  const similarity = await cosineSimilarity(tokens, pause);
  const packed = tf.tidy(() => tf.concat([tf.reshape(tf.norm(tokens, 'euclidean', 1), [-1]), tf.reshape(similarity, [-1])])); // one transfer
  try {
    const values = (await packed.data()) as Float32Array;
    return highest(await paced(propagate(values.subarray(size), values.subarray(0, size), graph), pause), count);
  } finally {
    tf.dispose([similarity, packed]);
  }
}

/**
 * The scores of `gPrune` without tensors.
 *
 * @param similarity [N, N], row-major: cosines of the tokens among themselves
 * @param lengths [N], of the tokens' vectors
 * @throws PruneError as `gPrune`; `FEATURE_SHAPE`
 */
export function graphScores(similarity: Float32Array, lengths: Float32Array, options: GraphOptions = {}): Float32Array {
  return finish(propagate(similarity, lengths, checkGraph(options)));
}

function* propagate(
  similarity: Float32Array,
  lengths: Float32Array,
  { threshold, temperature, rounds }: Required<GraphOptions>,
): Steps<Float32Array> {
  const size = lengths.length;
  checkSimilarity(similarity, size);
  const joined = (row: number, column: number) => row === column || similarity[row * size + column]! >= threshold;
  const shares = new Float64Array(size * size); // by row: what a token hands to each other one
  const degrees = new Int32Array(size);
  for (let row = 0; row < size; row++) {
    let total = 0;
    for (let column = 0; column < size; column++) {
      if (!joined(row, column)) continue;
      const weight = Math.exp((similarity[row * size + column]! - 1) / temperature); // the loop is the largest
      shares[row * size + column] = weight;
      total += weight;
      degrees[row] = degrees[row]! + 1;
    }
    for (let column = 0; column < size; column++) shares[row * size + column] = shares[row * size + column]! / total;
    if ((row * size) % STEP > ((row + 1) * size) % STEP) yield;
  }
  let held = Float64Array.from(lengths);
  for (let round = 0; round < rounds; round++) {
    const next = new Float64Array(size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) next[column] = next[column]! + held[row]! * shares[row * size + column]!;
    }
    held = next;
    yield;
  }
  const scores = Float32Array.from(held, (value, i) => value / degrees[i]!);
  checkScores(scores);
  return scores;
}

function checkGraph({ threshold = 0.5, temperature = 0.03, rounds = 5 }: GraphOptions): Required<GraphOptions> {
  if (typeof temperature !== 'number' || !(temperature > 0) || !Number.isFinite(temperature)) {
    throw new PruneError('METHOD_OPTION_INVALID', `Option "temperature" is ${show(temperature)}. Give a number above 0.`);
  }
  return {
    threshold: fraction(threshold, 'threshold', 'METHOD_OPTION_INVALID', true),
    temperature,
    rounds: wholeNumber(rounds, 'rounds', 'METHOD_OPTION_INVALID', 0, 1000),
  };
}

export const gPruneMethod: Method<GPruneOptions> = {
  options: [...BUDGET_OPTIONS, 'threshold', 'temperature', 'rounds', 'positions'],
  about: {
    title: 'G-Prune',
    acts: 'between projector and decoder, each crop by itself',
    reads: 'cosine similarity and length of the projected tokens',
    entering: 'T',
    source: 'Jiang et al., AAAI 2025, [arXiv 2501.02268](https://arxiv.org/abs/2501.02268); jytmelon/G-Prune @ 762c6377',
    grade: 'exact',
    differences: [
      'T is a count, or a ratio rounded halves up; the released code keeps floor(N / 2).',
      'Edges are counted before the softmax and all is float64: in half precision small shares vanish there, and with them edges. The power of the matrix is taken as that many products with a vector, which is the same.',
      'A token is always joined to itself, also a row of zeros, which the released code leaves without any edge to divide by.',
      'Row-end tokens of other models do not exist here.',
      'Of equal scores the lower index is kept.',
    ],
  },
  example: { method: 'g-prune', keepRatio: 0.5 },
  forAverage: (average) => ({ method: 'g-prune', tokens: wholeTokens(average) }),
  create({ tokens, keepRatio, threshold, temperature, rounds, positions = 'keep' }) {
    const graph = checkGraph({ threshold, temperature, rounds });
    return beforeDecoder({
      name: 'g-prune',
      count: tokenCount({ tokens, keepRatio }),
      positions: checkPositions(positions),
      needs: () => ({ attention: [] }),
      select: async (view, count) => gPrune(await view.projected(), count, graph, view.pause),
    });
  },
};
