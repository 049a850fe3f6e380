import type { VisionLanguageModel } from '../model';
import { highest } from '../prune/ranking';
import type { Reduction } from '../prune/types';
import { Random } from '../random';
import { AnswerCount, type AnswerQuality, firstAnswers } from './answers';
import { decoderHook, equalPositions, lastRowAttention, ownPositions } from './decoder_hook';
import {
  type AnalysedPicture,
  type AnalysisOptions,
  CLASS_ATTENTION,
  checkWhole,
  classAttention,
  type EncodedPicture,
  forEachPicture,
} from './pictures';
import { MeanRow, type Profile, profileOf } from './statistics';

export interface EqualPositionOptions extends AnalysisOptions {
  /** The decoder block whose attention is read; what is dropped is dropped before the next one. Default 1, as in the paper (0 in a decoder of two blocks). */
  readonly block?: number;
  /** Visual tokens kept; default: a quarter. */
  readonly tokens?: number;
  /** Of the random choice; default 0. */
  readonly seed?: number;
}

/** What tokens were chosen by. */
export const CRITERIA = ['last', 'equal', 'class', 'random'] as const;
export type Criterion = (typeof CRITERIA)[number];

export interface EqualPositionAttention {
  readonly visualTokens: number;
  readonly samples: number;
  readonly block: number;
  readonly tokens: number;
  /** The last token's attention by index, with the positions that the model has. */
  readonly last: Profile;
  /** The same states with one position id for all visual tokens. */
  readonly equal: Profile;
  /** The unpruned model's answers. */
  readonly full: AnswerQuality;
  /** Answers when `tokens` of them go on, chosen by each criterion. */
  readonly pruned: Readonly<Record<Criterion, AnswerQuality>>;
}

/**
 * Equal-position attention (VisPruner, https://arxiv.org/abs/2412.01818; the "equi" variant of the review-time code): the last token's attention to the
 * visual tokens in one block, computed once with the model's positions and once, from the same states, as if all visual tokens stood at one place, so that
 * rotary embedding can't prefer any. Then visual tokens are dropped before the next block as FastV drops them, by either attention, by the encoder's class
 * attention, and at random: if the model's positions are what misleads the last token, equal ones choose better.
 *
 * Differs from the authors' code: an answer is its first token; how many tokens their figure keeps is not published (ours: a quarter); a random subset is
 * drawn for every picture.
 *
 * @throws PromptError `NOTHING_ANALYSED`, `TOKENS_DIFFER`; ConfigError `BAD_OPTION` (also for a decoder of one block); the signal's reason
 */
export async function equalPositionAttention(
  model: VisionLanguageModel,
  pictures: Iterable<AnalysedPicture>,
  options: EqualPositionOptions = {},
): Promise<EqualPositionAttention> {
  const blocks = model.layers.language.blocks.length;
  const block = checkWhole(options.block ?? Math.max(0, Math.min(1, blocks - 2)), 'block', 0, blocks - 2);
  const { signal, progress, seed = 0 } = options;
  const count = () => new AnswerCount((id) => model.chatProcessor.decode([id]));
  const full = count();
  const answers: Record<Criterion, AnswerCount> = { last: count(), equal: count(), class: count(), random: count() };
  let rows: { readonly last: MeanRow; readonly equal: MeanRow } | undefined;
  let tokens = 0;
  let samples = 0;
  await forEachPicture(model, pictures, { signal, progress, prune: [CLASS_ATTENTION] }, async (picture) => {
    const { patches, questions } = picture;
    if (!rows) {
      tokens = checkWhole(options.tokens ?? Math.max(1, Math.round(patches / 4)), 'tokens', 1, patches);
      rows = { last: new MeanRow(patches), equal: new MeanRow(patches) };
    }
    samples += questions.length;
    const { last, equal } = rows;
    const byPicture = {
      class: await classAttention(model, picture),
      random: randomScores(patches, seed, picture.index),
    };
    const unpruned = await firstAnswers(model, picture, { method: 'none' }, signal);
    full.add(unpruned, unpruned, questions);
    const said = {
      last: await answersBy(model, picture, { block, tokens, scores: last, equal: false }, signal),
      equal: await answersBy(model, picture, { block, tokens, scores: equal, equal: true }, signal),
      class: await answersKeeping(model, picture, block, { keep: highest(byPicture.class, tokens) }, signal),
      random: await answersKeeping(model, picture, block, { keep: highest(byPicture.random, tokens) }, signal),
    };
    for (const criterion of CRITERIA) answers[criterion].add(said[criterion], unpruned, questions);
  });
  const { last, equal } = rows as NonNullable<typeof rows>;
  const pruned = { last: answers.last.quality, equal: answers.equal.quality, class: answers.class.quality, random: answers.random.quality };
  return {
    visualTokens: last.length,
    samples,
    block,
    tokens,
    last: profileOf(last.mean),
    equal: profileOf(equal.mean),
    full: full.quality,
    pruned,
  };
}

interface ByAttention {
  readonly block: number;
  readonly tokens: number;
  /** Each sample's row is added to it. */
  readonly scores: MeanRow;
  readonly equal: boolean;
}

/** Answers when what the last token attends to most in the block goes on behind it. */
function answersBy(
  model: VisionLanguageModel,
  picture: EncodedPicture,
  { block, tokens, scores, equal }: ByAttention,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const llama = model.layers.language;
  const hook = decoderHook('last-row', () => {
    let keep: Int32Array = new Int32Array(0);
    return async (view) => {
      if (view.block === block + 1) return { keep };
      if (view.block !== block) return undefined;
      const { sequenceLength, visualRows } = view;
      const positions = equal ? equalPositions(sequenceLength, visualRows) : ownPositions(sequenceLength);
      const [row] = (await lastRowAttention(llama, view, [positions])) as [Float32Array];
      scores.add(row);
      keep = highest(row, tokens);
      return undefined;
    };
  });
  return firstAnswers(model, picture, hook, signal);
}

function answersKeeping(
  model: VisionLanguageModel,
  picture: EncodedPicture,
  block: number,
  reduction: Reduction,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const hook = decoderHook('chosen-before', () => async (view) => (view.block === block + 1 ? reduction : undefined));
  return firstAnswers(model, picture, hook, signal);
}

function randomScores(size: number, seed: number, picture: number): Float32Array {
  const random = new Random(seed, picture);
  return Float32Array.from({ length: size }, () => random.uniform());
}
