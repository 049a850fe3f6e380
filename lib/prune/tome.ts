import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { show } from './checks';
import type { EncoderReducer, EncoderView, RowGroups } from './merging';
import type { Method } from './method';
import { descendingOrder } from './ranking';
import { cosineSimilarity } from './similarity';
import type { EncoderFacts } from './types';

const SCHEDULES = ['constant', 'decreasing'] as const;

/** How many tokens the blocks merge: the same number each, or from twice that falling to none. */
export type ToMeSchedule = (typeof SCHEDULES)[number];

/** `tokens`: T, those left behind the encoder. `schedule`: default `constant`. */
export type ToMeOptions = { readonly method: 'tome'; readonly schedule?: ToMeSchedule } & Budget;

/** ToMe inside the encoder: each block up to that of the features merges some of the most similar tokens. */
export const toMeMethod: Method<ToMeOptions> = {
  options: [...BUDGET_OPTIONS, 'schedule'],
  about: {
    title: 'ToMe',
    acts: 'inside the encoder, between attention and MLP of each block up to that of the features; merges',
    reads: 'keys of each block, averaged over heads',
    entering: 'T',
    source: 'Bolya et al., ICLR 2023, [arXiv 2210.09461](https://arxiv.org/abs/2210.09461); facebookresearch/ToMe',
    grade: 'exact',
    differences: [
      'The budget is T behind the encoder in place of r per block: r is (N - T) / blocks, rounded so that exactly T are left, or falls from twice that to 0. Where a block would have to merge more than the half that it can, earlier ones merge more.',
      'Of equal similarities, the lower place is merged first.',
      'An encoding belongs to this method and budget alone: no other can share it.',
    ],
  },
  example: { method: 'tome', tokens: 144 },
  forAverage(average, { patches, encoderBlocks = Number.POSITIVE_INFINITY }) {
    const tokens = wholeTokens(average);
    return isReachable(patches, tokens, encoderBlocks) ? { method: 'tome', tokens } : undefined;
  },
  create({ tokens, keepRatio, schedule = 'constant' }) {
    const count = tokenCount({ tokens, keepRatio });
    if (!SCHEDULES.includes(schedule)) {
      throw new PruneError('METHOD_OPTION_INVALID', `Option "schedule" is ${show(schedule)}. Give ${SCHEDULES.map(show).join(' or ')}.`);
    }
    const left = (patches: number, { featureBlock }: EncoderFacts) => toMeCounts(patches, count(patches), featureBlock + 1, schedule);
    const reducer = (encoder: EncoderFacts): EncoderReducer => ({
      key: `tome ${tokens ?? `${keepRatio} N`} ${schedule}`,
      weighted: true,
      afterAttention(view) {
        const target = left(view.grid.rows * view.grid.columns, encoder)[view.block] as number;
        return merge(view, encoder.heads, view.members.length - target);
      },
    });
    return {
      name: 'tome',
      textDependent: false,
      positions: 'compact',
      needs: (encoder) => ({ attention: [], encoder: reducer(encoder) }),
      enteringTokens: (patches, decoderBlocks) => new Array<number>(decoderBlocks).fill(count(patches)),
      begin({ encoder, patchesPerCrop }) {
        for (const patches of patchesPerCrop) left(patches, encoder);
        return { dispose() {} };
      },
    };
  },
};

/**
 * Tokens left behind each of `blocks` blocks, the last of them `tokens`. A block can merge at most half of what it gets.
 * @throws PruneError `BUDGET_UNREACHABLE`
 */
export function toMeCounts(patches: number, tokens: number, blocks: number, schedule: ToMeSchedule): number[] {
  if (!isReachable(patches, tokens, blocks)) {
    throw new PruneError(
      'BUDGET_UNREACHABLE',
      `${blocks} encoder blocks, each of which merges at most half of its tokens, can't make ${tokens} of ${patches}. Give at least ${Math.ceil(patches / 2 ** blocks)}.`,
    );
  }
  let before = patches;
  return Array.from({ length: blocks }, (_, block) => {
    const wanted = Math.round(patches - (patches - tokens) * mergedShare(block, blocks, schedule));
    const most = tokens * 2 ** (blocks - 1 - block); // with more, the blocks that follow could not do it
    before = Math.max(Math.ceil(before / 2), Math.min(wanted, most));
    return before;
  });
}

function isReachable(patches: number, tokens: number, blocks: number): boolean {
  return patches <= tokens * 2 ** blocks;
}

/** Of all that is merged, what is merged behind a block. */
function mergedShare(block: number, blocks: number, schedule: ToMeSchedule): number {
  const done = block + 1;
  if (schedule === 'constant' || blocks === 1) return done / blocks;
  return (2 / blocks) * (done - (block * done) / (2 * (blocks - 1)));
}

async function merge({ keys, members }: EncoderView, heads: number, merged: number): Promise<RowGroups | undefined> {
  if (merged === 0) return undefined;
  const [rows, width] = keys.shape;
  const [asking, asked] = tf.tidy(() => {
    const metric = tf.mean(tf.reshape(keys, [rows, heads, width / heads]), 1) as tf.Tensor2D;
    const every = (first: number) => tf.gather(metric, tf.range(first, rows, 2, 'int32')) as tf.Tensor2D;
    return [every(2), every(1)]; // row 0 is the class token, which asks nobody
  });
  let similarity: tf.Tensor2D | undefined;
  try {
    similarity = await cosineSimilarity(asking, () => Promise.resolve(), asked);
    return toMeGroups((await similarity.data()) as Float32Array, members.length, merged);
  } finally {
    tf.dispose([asking, asked]);
    similarity?.dispose();
  }
}

/**
 * Bipartite matching of ToMe (Bolya et al., ICLR 2023, https://arxiv.org/abs/2210.09461) without tensors. Patch rows 1, 3, 5, … (the class token counts as
 * row 0 of the other numbering) each propose to merge with the most similar of rows 0, 2, 4, …; the `merged` most similar proposals are carried out.
 * Rows that proposed and stay come first in the new order, then those that were asked.
 *
 * @param similarity row-major, [floor(count / 2), ceil(count / 2)]: cosines of those that propose with those that are asked
 * @param merged 1 to floor(count / 2)
 * @throws PruneError `FEATURES_NOT_FINITE`
 */
export function toMeGroups(similarity: Float32Array, count: number, merged: number): RowGroups {
  const [asking, asked] = [count >> 1, (count + 1) >> 1];
  const best = new Int32Array(asking);
  const offers = new Float32Array(asking);
  for (let i = 0; i < asking; i++) {
    const row = similarity.subarray(i * asked, (i + 1) * asked);
    const bad = row.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      throw new PruneError(
        'FEATURES_NOT_FINITE',
        `The similarity of rows ${2 * i + 1} and ${2 * bad} of ${count} is ${row[bad]}. Look for overflow in the encoder's weights.`,
      );
    }
    for (let j = 1; j < asked; j++) if (row[j]! > row[best[i]!]!) best[i] = j;
    offers[i] = row[best[i]!]!;
  }
  const gone = new Set(descendingOrder(offers).subarray(0, merged));
  const group = new Int32Array(count);
  let next = 0;
  for (let i = 0; i < asking; i++) group[2 * i + 1] = gone.has(i) ? asking - merged + best[i]! : next++;
  for (let j = 0; j < asked; j++) group[2 * j] = asking - merged + j;
  return { group, rows: count - merged };
}
