import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { gatherRows } from '../backend/step';
import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, type TokenCount, tokenCount, wholeTokens } from './budget';
import { checkScores, flag, wholeNumber } from './checks';
import { rankingAttention } from './encoder_attention';
import type { Method } from './method';
import { highest } from './ranking';
import { checkSimilarity, cosineSimilarity } from './similarity';
import type { EncoderFacts, Selection, VisionView } from './types';
import { weightedSums } from './weighted_sums';

/**
 * `tokens`: T, all that enter the decoder. `contextual`: those of them that are merged, 0 to T - 1; default round(T * 10 / 64).
 * `classToken`: whether the class token is one of the others; default true.
 */
export type VisionZipOptions = { readonly method: 'visionzip'; readonly contextual?: number; readonly classToken?: boolean } & Budget;

/** What becomes of N patches; each is in one of the lists, unless nothing is merged. */
export interface VisionZipChoice {
  /** Kept as they are, ascending. */
  readonly dominant: Int32Array;
  /** Contextual tokens begin with these patches, ascending. */
  readonly targets: Int32Array;
  /** For each target the patches merged into it, ascending; may be empty. */
  readonly assigned: readonly Int32Array[];
}

/**
 * The choice of VisionZip (Yang et al., CVPR 2025, https://arxiv.org/abs/2412.04467) without tensors. The `dominant` patches of highest score stay. Of
 * the n others, in raster order, every floor(n / contextual)-th is a target, the first `contextual` of them; each one left goes to the target that its
 * key is most similar to.
 *
 * @param scores [N], attention summed over heads
 * @param similarity [N, N], row-major: cosine similarity of the keys averaged over heads; not read when `contextual` is 0
 * @param counts whole; `dominant` + `contextual` at most N
 * @throws PruneError `ATTENTION_NOT_FINITE`, `FEATURES_NOT_FINITE`, `FEATURE_SHAPE`
 */
export function visionZip(
  scores: Float32Array,
  similarity: Float32Array,
  counts: { readonly dominant: number; readonly contextual: number },
): VisionZipChoice {
  checkScores(scores);
  const size = scores.length;
  const dominant = highest(scores, counts.dominant);
  if (counts.contextual === 0) return { dominant, targets: new Int32Array(0), assigned: [] };
  checkSimilarity(similarity, size);
  const stays = new Set(dominant);
  const others = Int32Array.from({ length: size }, (_, patch) => patch).filter((patch) => !stays.has(patch));
  const stride = Math.floor(others.length / counts.contextual);
  const targets = Int32Array.from({ length: counts.contextual }, (_, i) => others[i * stride]!);
  const isTarget = new Set(targets);
  const assigned: number[][] = Array.from(targets, () => []);
  for (const patch of others) {
    if (isTarget.has(patch)) continue;
    let best = 0;
    for (let i = 1; i < targets.length; i++) {
      if (similarity[patch * size + targets[i]!]! > similarity[patch * size + targets[best]!]!) best = i;
    }
    assigned[best]!.push(patch);
  }
  return { dominant, targets, assigned: assigned.map((patches) => Int32Array.from(patches)) };
}

/** VisionZip as a method of the model: dominant patches, then merged ones, before the projector. */
export const visionZipMethod: Method<VisionZipOptions> = {
  options: [...BUDGET_OPTIONS, 'contextual', 'classToken'],
  about: {
    title: 'VisionZip',
    acts: 'between encoder and projector, each crop by itself; merges',
    reads: 'class-token attention and keys of the feature block; the class token',
    entering: 'T',
    source: 'Yang et al., CVPR 2025, [arXiv 2412.04467](https://arxiv.org/abs/2412.04467); dvlab-research/VisionZip @ 3151f6d',
    grade: 'exact',
    differences: [
      'The budget is T, class token and contextual tokens included, as in the paper (54 + 10 = 64: the class token, 53 patches, 10 merged); the released call takes both parts by themselves. Contextual tokens are round(T * 10 / 64) of them, which gives the published pairs 54 + 10, 108 + 20 and 162 + 30.',
      'T = N keeps all patches, and no class token.',
      'Where the checkpoint feeds the class token to the decoder anyway (`vision_feature_select_strategy: full`), and with `classToken: false`, T counts patches alone: one dominant patch more.',
      'Of equal attention, the lower patch index is kept; of equally similar targets, the first is taken.',
    ],
  },
  example: { method: 'visionzip', tokens: 64 },
  forAverage: (average) => ({ method: 'visionzip', tokens: wholeTokens(average) }),
  create({ tokens, keepRatio, contextual, classToken = true }) {
    const wanted = contextual === undefined ? undefined : wholeNumber(contextual, 'contextual', 'METHOD_OPTION_INVALID', 0);
    const withClass = flag(classToken, 'classToken');
    return beforeDecoder({
      name: 'visionzip',
      count: checkedCount(tokenCount({ tokens, keepRatio }), wanted),
      needs: (encoder) => {
        const attention = [rankingAttention(encoder)];
        return { attention, projections: [attention[0]!.block], classToken: withClass && addsClassToken(encoder) };
      },
      select: (view, count, encoder) =>
        zip(view, encoder, {
          tokens: count,
          contextual: wanted ?? Math.round((count * 10) / 64),
          classToken: withClass && addsClassToken(encoder),
        }),
    });
  },
};

function addsClassToken({ hasClassToken, feedsClassToken }: EncoderFacts): boolean {
  return hasClassToken && !feedsClassToken;
}

/** At least one token is not contextual. */
function checkedCount(count: TokenCount, contextual: number | undefined): TokenCount {
  return (patches) => {
    const tokens = count(patches);
    if (contextual !== undefined && contextual >= tokens) {
      throw new PruneError(
        'METHOD_OPTION_INVALID',
        `Option "contextual" is ${contextual}, but a crop has ${tokens} tokens in all, of which at least one is dominant. Give 0 to ${tokens - 1}, or more tokens.`,
      );
    }
    return tokens;
  };
}

async function zip(
  view: VisionView,
  encoder: EncoderFacts,
  { tokens, contextual, classToken }: { readonly tokens: number; readonly contextual: number; readonly classToken: boolean },
): Promise<Selection> {
  const { features, pause } = view;
  const size = features.shape[0];
  if (tokens === size) return { kept: Int32Array.from({ length: size }, (_, patch) => patch) };
  const { scores, similarity } = await measured(view, encoder, contextual > 0);
  const { dominant, targets, assigned } = visionZip(scores, similarity, { dominant: tokens - contextual - (classToken ? 1 : 0), contextual });
  if (!classToken && contextual === 0) return { kept: dominant };

  const sums = Array.from(targets, (target, i) => {
    const others = assigned[i]!;
    return { rows: Int32Array.of(target, ...others), weights: Float32Array.of(1, ...new Array<number>(others.length).fill(1 / others.length)) };
  });
  const parts: tf.Tensor2D[] = [];
  try {
    if (dominant.length > 0) parts.push(gatherRows(features, dominant));
    if (sums.length > 0) parts.push(await weightedSums(features, sums, pause));
    const members = [...Array.from(dominant, (patch) => Int32Array.of(patch)), ...sums.map(({ rows }) => rows)];
    return {
      kept: Int32Array.from([...dominant, ...targets]).sort(),
      merged: {
        tokens: tf.concat(classToken ? [view.classToken(), ...parts] : parts, 0),
        space: 'features',
        members: classToken ? [Int32Array.of(-1), ...members] : members,
      },
    };
  } finally {
    tf.dispose(parts);
  }
}

/** Scores [N] and similarities [N, N] (none where they are not `merging`) in one transfer. */
async function measured(
  view: VisionView,
  encoder: EncoderFacts,
  merging: boolean,
): Promise<{ readonly scores: Float32Array; readonly similarity: Float32Array }> {
  const need = rankingAttention(encoder);
  const size = view.features.shape[0];
  const owned: tf.Tensor[] = [];
  try {
    let packed = tf.tidy(() => tf.sum(view.attention(need), 0, true)) as tf.Tensor2D; // [1, N]
    owned.push(packed);
    if (merging) {
      const metric = patchKeys(view.projections(need.block).keys, encoder.heads);
      owned.push(metric);
      const similarity = await cosineSimilarity(metric, view.pause);
      owned.push(similarity);
      packed = tf.concat([packed, similarity], 0);
      owned.push(packed);
    }
    const values = (await packed.data()) as Float32Array;
    return { scores: values.subarray(0, size), similarity: values.subarray(size) };
  } finally {
    tf.dispose(owned);
  }
}

/** Keys [1 + N, C], heads side by side, without the class token and averaged over heads: [N, C / heads]; the caller disposes it. */
function patchKeys(keys: tf.Tensor2D, heads: number): tf.Tensor2D {
  return tf.tidy(() => {
    const [rows, width] = keys.shape;
    const patches = tf.slice(keys, [1, 0], [rows - 1, -1]);
    return tf.mean(tf.reshape(patches, [rows - 1, heads, width / heads]), 1) as tf.Tensor2D;
  });
}
