import type { VisionLanguageModel } from '../model';
import { AnswerCount, type AnswerQuality, firstAnswers } from './answers';
import { decoderHook } from './decoder_hook';
import { type AnalysedPicture, type AnalysisOptions, checkWhole, forEachPicture } from './pictures';
import { quartileStart } from './statistics';

export interface QuartileOptions extends AnalysisOptions {
  /** Decoder blocks before which all but one quarter is dropped; default: every block. */
  readonly depths?: readonly number[];
}

/** One quarter of the visual tokens kept from one depth on. */
export interface QuartileRetention extends AnswerQuality {
  /** The block before which the others are dropped. */
  readonly depth: number;
  /** 0 to 3, by index. */
  readonly quartile: number;
  readonly kept: number;
}

export interface QuartileRetentions {
  readonly visualTokens: number;
  readonly samples: number;
  /** The unpruned model's. */
  readonly full: AnswerQuality;
  readonly retentions: readonly QuartileRetention[];
}

/** Indices of a quarter of N tokens. */
export function quartileIndices(visualTokens: number, quartile: number): Int32Array {
  const start = quartileStart(visualTokens, quartile);
  return Int32Array.from({ length: quartileStart(visualTokens, quartile + 1) - start }, (_, i) => start + i);
}

/**
 * Quartile retention by depth (VisPruner's figure on the attention shift, https://arxiv.org/abs/2412.01818): of the visual tokens only one quarter, by index,
 * goes on from a given decoder block; all blocks before it have all tokens, and positions stay as they were. Where the early blocks have not yet moved what
 * tokens say into others, the answer needs the patches it is about; later it does not.
 *
 * Differs from the paper: an answer is its first token, compared with the unpruned model's and, where it is known, with the right one; the paper averages
 * four benchmarks. A quarter of N tokens that is not whole is rounded so that the four are all tokens.
 *
 * @throws PromptError `NOTHING_ANALYSED`, `TOKENS_DIFFER`; ConfigError `BAD_OPTION`; the signal's reason
 */
export async function quartileRetention(
  model: VisionLanguageModel,
  pictures: Iterable<AnalysedPicture>,
  options: QuartileOptions = {},
): Promise<QuartileRetentions> {
  const blocks = model.layers.language.blocks.length;
  const depths = options.depths ?? Array.from({ length: blocks }, (_, block) => block);
  for (const depth of depths) checkWhole(depth, 'depths', 0, blocks - 1);
  const { signal, progress } = options;
  const count = () => new AnswerCount((id) => model.chatProcessor.decode([id]));
  const unpruned = count();
  const cells = depths.flatMap((depth) => [0, 1, 2, 3].map((quartile) => ({ depth, quartile, answers: count() })));
  let visualTokens = 0;
  let samples = 0;
  await forEachPicture(model, pictures, { signal, progress }, async (picture) => {
    visualTokens = picture.patches;
    samples += picture.questions.length;
    const full = await firstAnswers(model, picture, { method: 'none' }, signal);
    unpruned.add(full, full, picture.questions);
    for (const { depth, quartile, answers } of cells) {
      const keep = quartileIndices(visualTokens, quartile);
      const hook = decoderHook(`quartile ${quartile}`, () => async (view) => (view.block === depth ? { keep } : undefined));
      answers.add(await firstAnswers(model, picture, hook, signal), full, picture.questions);
    }
  });
  const retentions = cells.map(({ depth, quartile, answers }) => ({
    depth,
    quartile,
    kept: quartileIndices(visualTokens, quartile).length,
    ...answers.quality,
  }));
  return { visualTokens, samples, full: unpruned.quality, retentions };
}
