import type { VisionLanguageModel } from '../model';
import { firstAnswers } from './answers';
import { decoderHook, equalPositions, lastRowAttention, ownPositions } from './decoder_hook';
import { type AnalysedPicture, type AnalysisOptions, CLASS_ATTENTION, checkWhole, classAttention, forEachPicture } from './pictures';
import { MeanRow } from './statistics';

export interface DispersionOptions extends AnalysisOptions {
  /** The decoder's block; default 1, the second, as in the paper (0 in a decoder of one block). */
  readonly block?: number;
  /** Of the histogram; default 200, as in the paper. */
  readonly bins?: number;
}

/** How one kind of attention spreads over N tokens. */
export interface Dispersion {
  readonly samples: number;
  /** [N], what share of the attention the 1, 2, ... N most attended tokens hold, averaged over samples; the last is 1. */
  readonly cumulative: Float32Array;
  /** [bins], the share of all scores of all samples that lie between i / bins and (i + 1) / bins of the largest; the largest lies in the last. */
  readonly histogram: Float64Array;
  readonly largest: number;
}

export interface AttentionDispersion {
  readonly visualTokens: number;
  readonly block: number;
  /** The encoder's class attention; a sample a picture. */
  readonly encoder: Dispersion;
  /** The last token's in the decoder's block; a sample a question. */
  readonly last: Dispersion;
  /** The same with one position id for all visual tokens. */
  readonly equal: Dispersion;
}

/** Collects rows of attention over N tokens each; rows of different length are refused by their first reader. */
export class DispersionAccumulator {
  private readonly cumulated: MeanRow;
  private readonly rows: Float32Array[] = []; // all of them: the histogram's scale is their maximum, known at the end

  constructor(
    private readonly visualTokens: number,
    private readonly bins: number,
  ) {
    this.cumulated = new MeanRow(visualTokens);
  }

  /** Scores need not add up to 1; those of a row that are all 0 count as equal. */
  add(scores: Float32Array): void {
    this.rows.push(scores);
    const sorted = scores.slice().sort().reverse();
    const sum = sorted.reduce((total, score) => total + score, 0);
    let reached = 0;
    this.cumulated.add(sorted.map((score) => (reached += sum > 0 ? score / sum : 1 / this.visualTokens)));
  }

  result(): Dispersion {
    const largest = this.rows.reduce((most, row) => row.reduce((high, score) => Math.max(high, score), most), 0);
    const histogram = new Float64Array(this.bins);
    const one = 1 / (this.rows.length * this.visualTokens);
    for (const row of this.rows) {
      for (const score of row) {
        const bin = largest > 0 ? Math.min(this.bins - 1, Math.floor((score / largest) * this.bins)) : 0;
        histogram[bin] = (histogram[bin] as number) + one;
      }
    }
    return { samples: this.rows.length, cumulative: this.cumulated.mean, histogram, largest };
  }
}

/** What the most attended `fraction` (0 to 1) of the tokens hold, between two tokens by a straight line. */
export function shareOfTop({ cumulative }: Dispersion, fraction: number): number {
  const place = fraction * cumulative.length;
  const whole = Math.min(cumulative.length, Math.floor(place));
  const held = whole === 0 ? 0 : (cumulative[whole - 1] as number);
  return whole === cumulative.length ? held : held + (place - whole) * ((cumulative[whole] as number) - held);
}

/**
 * Attention dispersion (VisPruner, https://arxiv.org/abs/2412.01818; FasterVLM's `analyze_attn_dispersion`): does attention gather on few visual tokens or
 * spread over all? The encoder's class attention is compared with the last token's in the decoder's second block, both averaged over heads. The curve is
 * the mean over samples of the scores sorted from the highest, divided by their sum, and added up.
 *
 * Differs from the authors' code: the histogram holds shares; they plot 5 plus their natural logarithm under labels of powers of ten.
 *
 * @throws PromptError `NOTHING_ANALYSED`, `TOKENS_DIFFER`; ConfigError `BAD_OPTION`; the signal's reason
 *
 * @example
 * const { encoder, last } = await attentionDispersion(model, scenePictures(20));
 * shareOfTop(encoder, 0.2); // 1 where a fifth of the patches has it all, 0.2 where all have the same
 */
export async function attentionDispersion(
  model: VisionLanguageModel,
  pictures: Iterable<AnalysedPicture>,
  options: DispersionOptions = {},
): Promise<AttentionDispersion> {
  const llama = model.layers.language;
  const blocks = llama.blocks.length;
  const block = checkWhole(options.block ?? Math.min(1, blocks - 1), 'block', 0, blocks - 1);
  const bins = checkWhole(options.bins ?? 200, 'bins', 1, 100_000);
  const { signal, progress } = options;
  let found: { readonly encoder: DispersionAccumulator; readonly last: DispersionAccumulator; readonly equal: DispersionAccumulator } | undefined;
  let visualTokens = 0;
  const reader = decoderHook('dispersion', () => async (view) => {
    if (view.block !== block) return undefined;
    const { sequenceLength, visualRows } = view;
    const [last, equal] = await lastRowAttention(llama, view, [ownPositions(sequenceLength), equalPositions(sequenceLength, visualRows)]);
    found?.last.add(last as Float32Array);
    found?.equal.add(equal as Float32Array);
    return undefined;
  });
  await forEachPicture(model, pictures, { signal, progress, prune: [CLASS_ATTENTION] }, async (picture) => {
    if (!found) {
      visualTokens = picture.patches;
      const accumulator = () => new DispersionAccumulator(visualTokens, bins);
      found = { encoder: accumulator(), last: accumulator(), equal: accumulator() };
    }
    found.encoder.add(await classAttention(model, picture));
    await firstAnswers(model, picture, reader, signal);
  });
  const { encoder, last, equal } = found as NonNullable<typeof found>;
  return { visualTokens, block, encoder: encoder.result(), last: last.result(), equal: equal.result() };
}
