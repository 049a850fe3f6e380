import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { finish, Pacer, type Pause, paced, type Steps } from '../pacer';
import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { checkNames, checkScores, fraction, wholeNumber } from './checks';
import { dedupSteps } from './dedup_pool';
import { rankingAttention } from './encoder_attention';
import type { Method } from './method';
import { descendingOrder } from './ranking';
import { checkSimilarity, cosineSimilarity } from './similarity';

export interface SelectionOptions {
  /** T, patches to keep: whole, 1 or more. Where there are fewer patches, all are kept. */
  readonly tokens: number;
  /** r, the share of them that is kept for its attention: floor(T * r). 0 to 1; default 0.5. */
  readonly importantRatio?: number;
  /** Patches removed in a round of deduplication: whole, 1 or more; default 8, as in the paper's code. */
  readonly step?: number;
}

interface Plan {
  readonly tokens: number;
  readonly important: number;
  readonly step: number;
}

/**
 * VisPruner (Zhang et al., ICCV 2025, https://arxiv.org/abs/2412.01818): the patches to keep of one crop. First the floor(T * r) with the highest
 * attention; then, of all others, those that are left when the most duplicated have been removed (`dedupPool`).
 *
 * The similarities are a product on the backend and come down in one transfer together with the attention; the rest is plain arithmetic.
 * Differs from the released code: see `dedupPool`; a feature row of zeros has similarity 0 to every other (there NaN).
 *
 * @param features [N, C], the encoder's output before the projector; borrowed
 * @param attention [heads, N], the class token's (or what each patch receives on average), class column left out; borrowed
 * @param pause awaited between steps of the work; whatever it throws ends it
 * @returns kept patches, ascending: min(T, N) of them
 * @throws PruneError `TOKENS_INVALID`, `IMPORTANT_RATIO_INVALID`, `STEP_INVALID`; `FEATURE_SHAPE`; `ATTENTION_NOT_FINITE`, `FEATURES_NOT_FINITE`
 *
 * @example
 * const kept = await visPruner(features, clsAttention, { tokens: 64, importantRatio: 0.5 });
 * const tokens = projector.apply(tf.gather(features, kept));
 */
export async function visPruner(
  features: tf.Tensor2D,
  attention: tf.Tensor2D,
  options: SelectionOptions,
  pause: Pause = new Pacer().pause,
): Promise<Int32Array> {
  checkShapes(features, attention);
  const size = features.shape[0];
  const plan = makePlan(options, size);
  if (plan.tokens === size) return all(size);

  const scores = tf.tidy(() => tf.mean(attention, 0, true)) as tf.Tensor2D; // [1, N]
  let packed: tf.Tensor2D | undefined;
  try {
    if (plan.important < plan.tokens) packed = await withSimilarity(scores, features, pause);
    const values = (await (packed ?? scores).data()) as Float32Array;
    return await paced(choose(values.subarray(0, size), values.subarray(size), plan), pause);
  } finally {
    tf.dispose([scores, packed].filter((value) => value !== undefined));
  }
}

/**
 * The choice of `visPruner` without tensors: a pure function of what the backend computed.
 *
 * @param scores [N], attention averaged over heads
 * @param similarity [N, N], row-major: cosine similarity of the features; not read when `importantRatio` is 1
 * @returns kept patches, ascending: min(T, N) of them
 * @throws PruneError as `visPruner`
 */
export function selectTokens(scores: Float32Array, similarity: Float32Array, options: SelectionOptions): Int32Array {
  const plan = makePlan(options, scores.length);
  if (plan.tokens === scores.length) return all(scores.length);
  if (plan.important < plan.tokens && similarity.length !== scores.length ** 2) {
    throw new PruneError('FEATURE_SHAPE', `${scores.length} scores need ${scores.length ** 2} similarities, but there are ${similarity.length}.`);
  }
  return finish(choose(scores, similarity, plan));
}

function all(size: number): Int32Array {
  return Int32Array.from({ length: size }, (_, index) => index);
}

function* choose(scores: Float32Array, similarity: Float32Array, { tokens, important, step }: Plan): Steps<Int32Array> {
  checkScores(scores);
  const order = descendingOrder(scores);
  if (important === tokens) return order.slice(0, tokens).sort();
  checkSimilarity(similarity, scores.length);
  const kept = new Int32Array(tokens);
  kept.set(order.subarray(0, important));
  kept.set(yield* dedupSteps(similarity, scores.length, order.subarray(important), tokens - important, step), important);
  return kept.sort();
}

/** Scores [1, N] and, under them, the cosine similarity [N, N] of features [N, C]. */
async function withSimilarity(scores: tf.Tensor2D, features: tf.Tensor2D, pause: Pause): Promise<tf.Tensor2D> {
  const similarity = await cosineSimilarity(features, pause);
  try {
    return tf.concat([scores, similarity], 0);
  } finally {
    similarity.dispose();
  }
}

const SELECTION_OPTIONS: readonly (keyof SelectionOptions)[] = ['tokens', 'importantRatio', 'step'];

function makePlan(options: SelectionOptions, size: number): Plan {
  checkNames(options, SELECTION_OPTIONS, 'The selection');
  const { tokens, importantRatio = 0.5, step = 8 } = options;
  const kept = Math.min(wholeNumber(tokens, 'tokens', 'TOKENS_INVALID', 1), size);
  return {
    tokens: kept,
    important: Math.floor(kept * fraction(importantRatio, 'importantRatio', 'IMPORTANT_RATIO_INVALID', true)),
    step: wholeNumber(step, 'step', 'STEP_INVALID', 1),
  };
}

function checkShapes(features: tf.Tensor, attention: tf.Tensor): void {
  if (features.rank !== 2 || attention.rank !== 2 || features.shape[0] !== attention.shape[1] || attention.shape[0] === 0) {
    throw new PruneError(
      'FEATURE_SHAPE',
      `Features [${features.shape}] and attention [${attention.shape}] do not fit: give features [N, C] and attention [heads, N] of the same N patches, without the class token's row and column.`,
    );
  }
}

export type VisPrunerOptions = { readonly method: 'vispruner' } & Budget & Omit<SelectionOptions, 'tokens'>;

/** VisPruner as a method of the model: every crop by itself. Unlike `visPruner`, more tokens than a crop has patches are an error. */
export const visPrunerMethod: Method<VisPrunerOptions> = {
  options: [...BUDGET_OPTIONS, 'importantRatio', 'step'],
  about: {
    title: 'VisPruner',
    acts: 'between encoder and projector, each crop by itself',
    reads:
      'class-token attention of the feature block (no class token: mean attention received in the last block); cosine similarity of the features',
    entering: 'T',
    source: 'Zhang et al., ICCV 2025, [arXiv 2412.01818](https://arxiv.org/abs/2412.01818); Theia-4869/VisPruner @ aefa01a',
    grade: 'exact',
    differences: [
      'Odd pools, and rounds with fewer candidates than tokens to remove, are thinned by what can be removed; the released loop fails with an index error.',
      'Both sorts are stable, so equal scores have one answer: the lower patch index, or the earlier place in the pool, first.',
      'A feature row of zeros has similarity 0 to every other; the released code divides by zero.',
      'T > N is an error in the model; the function `visPruner` keeps all N patches.',
      'The projector sees the kept patches only; the released code projects all of them first. The result is the same.',
    ],
  },
  example: { method: 'vispruner', tokens: 64, importantRatio: 0.5 },
  forAverage: (average) => ({ method: 'vispruner', tokens: wholeTokens(average) }),
  create({ tokens, keepRatio, importantRatio, step }) {
    makePlan({ tokens: 1, importantRatio, step }, 1);
    return beforeDecoder({
      name: 'vispruner',
      count: tokenCount({ tokens, keepRatio }),
      needs: (encoder) => ({ attention: [rankingAttention(encoder)] }),
      select: (view, count, encoder) =>
        visPruner(view.features, view.attention(rankingAttention(encoder)), { tokens: count, importantRatio, step }, view.pause),
    });
  },
};
