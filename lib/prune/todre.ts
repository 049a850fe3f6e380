import * as tf from '@tensorflow/tfjs';
import { finish, Pacer, type Pause, paced, type Steps } from '../pacer';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { checkScores, flag, fraction, wholeNumber } from './checks';
import { checkDepth, scaledLayers } from './depth';
import type { Method } from './method';
import { checkSimilarity, cosineSimilarity } from './similarity';
import type { AttentionNeed, DecoderView, EncoderFacts, Reduction } from './types';

export type ToDreOptions = {
  readonly method: 'todre';
  /** Whether visual tokens are withdrawn inside the decoder when text no longer looks at them; default true. */
  readonly withdraw?: boolean;
  /** Share of the text's attention below which they are: 0 to 1; default 0.1. */
  readonly tau?: number;
  /** The block behind which they are; default 7/8 of the decoder's blocks, that is 28 of 32. */
  readonly layer?: number;
} & Budget;

/** Similarities added up between two pauses: about 20 ms. */
const STEP = 2 ** 22;

/** Rows of the attention map that are held at once. */
const ROWS_AT_ONCE = 128;

/**
 * ToDRE's first stage (Li et al. 2025, https://arxiv.org/abs/2505.18757): from one pivot on, time after time the token whose similarities to all chosen
 * ones add up to the least.
 *
 * @param tokens [N, D], projected; borrowed
 * @param pivot the first that is chosen
 * @param count tokens to keep: whole, 1 to N
 * @param pause awaited between steps of the work; whatever it throws ends it
 * @returns kept tokens, ascending
 * @throws PruneError `TOKENS_INVALID`, `FEATURES_NOT_FINITE`
 */
export async function selectDispersed(tokens: tf.Tensor2D, pivot: number, count: number, pause: Pause = new Pacer().pause): Promise<Int32Array> {
  const similarity = await cosineSimilarity(tokens, pause);
  try {
    return await paced(disperse((await similarity.data()) as Float32Array, tokens.shape[0], pivot, count), pause);
  } finally {
    similarity.dispose();
  }
}

/**
 * The same without tensors.
 *
 * @param similarity [N, N], row-major: cosines of the tokens among themselves
 * @throws PruneError as `selectDispersed`; `FEATURE_SHAPE`
 */
export function disperseFrom(similarity: Float32Array, size: number, pivot: number, count: number): Int32Array {
  return finish(disperse(similarity, size, pivot, count));
}

function* disperse(similarity: Float32Array, size: number, pivot: number, count: number): Steps<Int32Array> {
  wholeNumber(count, 'tokens', 'TOKENS_INVALID', 1, size);
  checkSimilarity(similarity, size);
  const sums = new Float64Array(size);
  const chosen = new Int32Array(count);
  for (let i = 0, next = pivot; i < count; i++) {
    chosen[i] = next;
    for (let row = 0; row < size; row++) sums[row] = sums[row]! + similarity[next * size + row]!;
    sums[next] = Number.POSITIVE_INFINITY; // and so for good: never chosen twice
    next = 0;
    for (let row = 1; row < size; row++) if (sums[row]! < sums[next]!) next = row;
    if ((i * size) % STEP > ((i + 1) * size) % STEP) yield;
  }
  return chosen.sort();
}

/**
 * ToDRE's second stage: how much visual and text tokens look at one another in the block that just ran, averaged over heads. Text is what stands behind the
 * first visual token.
 *
 * @returns the share of the text's attention that goes to visual tokens, and the other way round
 */
export async function mutualAttention(view: DecoderView): Promise<{ readonly textToVisual: number; readonly visualToText: number }> {
  const visual = new Set(view.visualRows);
  const [first, last] = [view.visualRows[0] as number, view.visualRows.at(-1) as number];
  const text = Int32Array.from({ length: view.sequenceLength - first }, (_, i) => first + i).filter((row) => !visual.has(row));
  const textToVisual = await share(view, text, view.visualRows);
  // Causality hides from visual tokens all text behind them: only with text between images is there anything to see.
  const between = text.filter((row) => row < last);
  return { textToVisual, visualToText: between.length > 0 ? await share(view, view.visualRows, between) : 0 };
}

/** Of all attention of some rows, the share that goes to some columns. */
async function share(view: DecoderView, rows: Int32Array, columns: Int32Array): Promise<number> {
  let total = 0;
  for (let start = 0; start < rows.length; start += ROWS_AT_ONCE) {
    const part = tf.tidy(() => {
      const attention = tf.mean(view.attentionRows(view.block, rows.slice(start, start + ROWS_AT_ONCE)), 0); // [rows, S]
      return tf.sum(tf.gather(tf.sum(attention, 0), tf.tensor1d(columns, 'int32')));
    });
    const values = Float32Array.from(await part.data());
    part.dispose();
    checkScores(values);
    total += values[0] as number;
    await view.pause();
  }
  return rows.length === 0 ? 0 : total / rows.length; // each row adds up to 1
}

async function withdrawal(view: DecoderView, tau: number): Promise<Reduction | undefined> {
  const { textToVisual, visualToText } = await mutualAttention(view);
  return textToVisual < tau && visualToText < tau ? { keep: new Int32Array(0) } : undefined;
}

/** Of the encoder's last block: the class token's, or without one what each patch receives. */
function pivotAttention({ blocks, hasClassToken }: EncoderFacts): AttentionNeed {
  return { block: blocks - 1, rows: hasClassToken ? 'class' : 'received' };
}

async function pivotOf(attention: tf.Tensor2D): Promise<number> {
  const mean = tf.tidy(() => tf.mean(attention, 0));
  try {
    const scores = (await mean.data()) as Float32Array;
    checkScores(scores);
    return scores.reduce((best, score, i) => (score > scores[best]! ? i : best), 0);
  } finally {
    mean.dispose();
  }
}

export const toDreMethod: Method<ToDreOptions> = {
  options: [...BUDGET_OPTIONS, 'withdraw', 'tau', 'layer'],
  about: {
    title: 'ToDRE',
    acts: 'between projector and decoder, each crop by itself; and behind block 7/8 L of the decoder, where all visual tokens leave at once, or none',
    reads:
      'class-token attention of the last encoder block (for the first token chosen), cosine similarity of the projected tokens; attention of the text to them, averaged over heads',
    entering: 'T up to block 7/8 L; behind it T or 0, by the image and the question',
    source: 'Li et al., [arXiv 2505.18757](https://arxiv.org/abs/2505.18757) v2; no code was published',
    grade: 'paper',
    differences: [
      'Not said in the paper, and ours: heads are averaged in the class attention; kept tokens enter in raster order; block 28 of 32 is counted from 0, so the tokens have gone through it.',
      'The budget is T per crop; the paper has 10% or 25% of all tokens of an image, with one pivot in its thumbnail.',
      'Without a class token the pivot is the patch that receives most attention in the last block; the paper takes a random one.',
      'Of equal sums the lower index is chosen.',
      'An equal budget (`vispruner eval`) compares the first stage alone (`withdraw: false`): what the second saves depends on the question.',
    ],
  },
  example: { method: 'todre', tokens: 64 },
  forAverage: (average) => ({ method: 'todre', tokens: wholeTokens(average), withdraw: false }),
  create({ tokens, keepRatio, withdraw = true, tau = 0.1, layer }) {
    const count = tokenCount({ tokens, keepRatio });
    const second = flag(withdraw, 'withdraw');
    const limit = fraction(tau, 'tau', 'METHOD_OPTION_INVALID', true);
    if (layer !== undefined) wholeNumber(layer, 'layer', 'LAYER_INVALID', 0);
    return {
      name: 'todre',
      textDependent: second,
      positions: second ? 'keep' : 'compact',
      needs: (encoder) => ({ attention: [pivotAttention(encoder)], blockInput: second }),
      enteringTokens: (patches, decoderBlocks) => (second ? undefined : new Array<number>(decoderBlocks).fill(count(patches))),
      begin({ encoder, patchesPerCrop, decoderBlocks }) {
        for (const patches of patchesPerCrop) count(patches);
        const last = decoderBlocks - 2; // behind the last block nothing would be saved
        const [block] = layer === undefined ? scaledLayers([28], decoderBlocks, 0, last) : [layer];
        if (second && block !== undefined) checkDepth([block], 'layer', decoderBlocks, last);
        return {
          async select(view) {
            const pivot = await pivotOf(view.attention(pivotAttention(encoder)));
            return { kept: await selectDispersed(await view.projected(), pivot, count(view.grid.rows * view.grid.columns), view.pause) };
          },
          ...(second ? { afterBlock: async (view) => (view.block === block ? withdrawal(view, limit) : undefined) } : {}),
          dispose() {},
        };
      },
    };
  },
};
