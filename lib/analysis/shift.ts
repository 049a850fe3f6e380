import * as tf from '@tensorflow/tfjs';
import type { Tap } from '../../layers/tap';
import type { VisionLanguageModel } from '../model';
import { highest } from '../prune/ranking';
import type { TokenModel } from '../token_model';
import type { TokenRequest } from '../token_request';
import { decoderHook } from './decoder_hook';
import { type AnalysedPicture, type AnalysisOptions, CLASS_ATTENTION, checkWhole, classAttention, forEachPicture } from './pictures';
import { MeanRow, type Profile, profileOf } from './statistics';

export interface ShiftOptions extends AnalysisOptions {
  /** Of how many tokens it is counted that the last token attends to them most; default: a quarter of them. */
  readonly tokens?: number;
}

/** How much of one decoder block's attention goes to each visual token, averaged over samples. */
export interface BlockShift {
  readonly block: number;
  /** From the prompt's last token. */
  readonly last: Profile;
  /** From the text behind the image, its last token left out. */
  readonly text: Profile;
  /** From visual tokens, over those that can see it. */
  readonly image: Profile;
  /** From all tokens from the image on, over those that can see it. */
  readonly full: Profile;
  /** Share of samples in which a token is among those that the last token attends to most. */
  readonly selected: Profile;
}

export interface AttentionShift {
  /** N, of one picture. */
  readonly visualTokens: number;
  /** Questions that were looked at. */
  readonly samples: number;
  /** How many tokens `selected` counts. */
  readonly selectedTokens: number;
  readonly blocks: readonly BlockShift[];
  /** The encoder's class attention (where there is no class token: attention received), for contrast; averaged over pictures. */
  readonly encoder: Profile;
}

/** Attention that reached N visual tokens in one sequence and block, averaged over heads: sums over rows, each [N]. */
export interface ShiftSums {
  readonly last: Float32Array;
  /** Rows behind the image, without the last. */
  readonly text: Float32Array;
  readonly image: Float32Array;
}

/** Averages one block's attention over samples, as the definitions of `attentionShift` say. */
export class ShiftAccumulator {
  private readonly means: {
    readonly last: MeanRow;
    readonly text: MeanRow;
    readonly image: MeanRow;
    readonly full: MeanRow;
    readonly selected: MeanRow;
  };

  constructor(
    private readonly visualTokens: number,
    private readonly selectedTokens: number,
  ) {
    const row = () => new MeanRow(visualTokens);
    this.means = { last: row(), text: row(), image: row(), full: row(), selected: row() };
  }

  /** @param textTokens T, rows behind the image, the last one included */
  add({ last, text, image }: ShiftSums, textTokens: number): void {
    const { means, visualTokens } = this;
    means.last.add(last);
    means.text.add(text, 1 / textTokens);
    means.image.add(image.map((sum, j) => sum / (visualTokens - j)));
    means.full.add(image.map((sum, j) => (sum + (text[j] as number) + (last[j] as number)) / (visualTokens - j + textTokens)));
    const selected = new Float32Array(visualTokens);
    for (const j of highest(last, this.selectedTokens)) selected[j] = 1;
    means.selected.add(selected);
  }

  result(block: number): BlockShift {
    const { last, text, image, full, selected } = this.means;
    return {
      block,
      last: profileOf(last.mean),
      text: profileOf(text.mean),
      image: profileOf(image.mean),
      full: profileOf(full.mean),
      selected: profileOf(selected.mean),
    };
  }
}

/**
 * Attention shift (VisPruner, https://arxiv.org/abs/2412.01818; FasterVLM's `analyze_attn_shift`): how the decoder's attention to a visual token depends on
 * the token's index, block by block, with the unpruned prompt. For N visual tokens and T tokens behind them, A being the map of a block averaged over heads,
 * token j gets
 *
 * - last: A[last, j]
 * - text: the sum over the rows behind the image, the last one left out, divided by T. As in the authors' code: T - 1 rows are summed, so this is smaller
 *   than their mean by a factor of (T - 1) / T; shares and ranks are not touched by that
 * - image: the sum over visual rows, divided by N - j: so many of them can see it
 * - full: the sum over all rows from the image on, divided by N - j + T
 *
 * Then the mean over all questions. Nothing is renormalised: for last and text, whose values are of one row, `mass` is
 * what of its attention goes to the image.
 *
 * Differs from the authors' code: several questions about a picture are as many samples; `selected` is ours for the paper's figure of how often an index is
 * chosen, whose number of tokens is not published.
 *
 * @throws PromptError `NOTHING_ANALYSED`, `TOKENS_DIFFER`; ConfigError `BAD_OPTION`; the signal's reason
 *
 * @example
 * const { blocks, encoder } = await attentionShift(model, scenePictures(20));
 * blocks[1].last.quartiles; // shares of the four quarters of the indices
 */
export async function attentionShift(
  model: VisionLanguageModel,
  pictures: Iterable<AnalysedPicture>,
  options: ShiftOptions = {},
): Promise<AttentionShift> {
  let blocks: ShiftAccumulator[] = [];
  let encoder: MeanRow | undefined;
  let selectedTokens = 0;
  let samples = 0;
  const { signal, progress } = options;
  await forEachPicture(model, pictures, { signal, progress, prune: [CLASS_ATTENTION] }, async (picture) => {
    const { patches } = picture;
    if (!encoder) {
      selectedTokens = checkWhole(options.tokens ?? Math.max(1, Math.round(patches / 4)), 'tokens', 1, patches);
      encoder = new MeanRow(patches);
      blocks = model.layers.language.blocks.map(() => new ShiftAccumulator(patches, selectedTokens));
    }
    encoder.add(await classAttention(model, picture));
    for (const { inputIds } of picture.questions) {
      const { sums, textTokens } = await readSums(model, { inputIds, images: picture.images }, signal);
      for (const [k, block] of blocks.entries()) block.add(sums[k] as ShiftSums, textTokens);
      samples++;
    }
  });
  const mean = (encoder as MeanRow).mean;
  return { visualTokens: mean.length, samples, selectedTokens, blocks: blocks.map((block, k) => block.result(k)), encoder: profileOf(mean) };
}

const PROBABILITIES = /^language_model\.model\.layers\.\d+\.self_attn#probabilities$/;

/** One pass over a prompt: of each block's map only three sums over rows are held. */
export async function readSums(
  model: Pick<TokenModel, 'forward'>,
  request: TokenRequest,
  signal?: AbortSignal,
): Promise<{ readonly sums: readonly ShiftSums[]; readonly textTokens: number }> {
  let visualRows: Int32Array = new Int32Array(0);
  const held: tf.Tensor2D[] = [];
  const where = decoderHook('shift', () => async (view) => {
    visualRows = view.visualRows;
    return undefined;
  });
  const tap: Tap = (name, value) => {
    if (PROBABILITIES.test(name)) held.push(tf.keep(sumsOf(value as tf.Tensor3D, visualRows)));
  };
  let all: tf.Tensor2D | undefined;
  try {
    const { logits } = await model.forward(request, { prune: where, tap, signal });
    const textTokens = logits.shape[0] - 1 - (visualRows.at(-1) as number);
    logits.dispose();
    all = tf.concat(held, 0);
    const values = (await all.data()) as Float32Array;
    const row = (i: number) => values.slice(i * visualRows.length, (i + 1) * visualRows.length);
    return { sums: held.map((_, k) => ({ last: row(3 * k), text: row(3 * k + 1), image: row(3 * k + 2) })), textTokens };
  } finally {
    tf.dispose(held);
    all?.dispose();
  }
}

/** probabilities [heads, S, S] -> sums over the last row, the text rows before it and the visual rows, [3, N] */
function sumsOf(probabilities: tf.Tensor3D, visualRows: Int32Array): tf.Tensor2D {
  return tf.tidy(() => {
    const patches = tf.tensor1d(visualRows, 'int32');
    const received = tf.gather(tf.mean(probabilities, 0) as tf.Tensor2D, patches, 1); // [S, N]
    const length = received.shape[0];
    const behind = (visualRows.at(-1) as number) + 1;
    const last = tf.slice(received, [length - 1, 0], [1, -1]);
    const text = tf.sum(tf.slice(received, [behind, 0], [length - 1 - behind, -1]), 0, true); // none: zeros
    const image = tf.sum(tf.gather(received, patches), 0, true);
    return tf.concat([last, text, image] as tf.Tensor2D[], 0);
  });
}
