import * as tf from '@tensorflow/tfjs';
import { ConfigError, PromptError } from '../../layers/errors';
import { attentionKey } from '../encoded';
import { sceneQuestions } from '../eval';
import type { ImageInput, PreparedImage } from '../image/types';
import type { VisionLanguageModel } from '../model';
import { rankingAttention } from '../prune/encoder_attention';
import type { Pruner } from '../prune/types';
import { generateScene, HELD_OUT_SEEDS } from '../scenes';
import type { EncodedImages, Prune } from '../token_request';

/** What an analysis looks at: a picture, and what is asked about it. */
export interface AnalysedPicture {
  readonly image: ImageInput;
  /** One or more. With answers, of one token each, analyses tell how many are right; without them, how many are what the unpruned model says. */
  readonly questions: readonly { readonly text: string; readonly answer?: string }[];
}

export interface AnalysisOptions {
  readonly signal?: AbortSignal;
  /** Called after each picture with how many are done. */
  readonly progress?: (pictures: number) => void;
}

/** A picture behind the encoder, and its questions as prompts. Its tensors are borrowed. */
export interface EncodedPicture {
  /** How many came before it. */
  readonly index: number;
  readonly images: EncodedImages;
  /** Its pixels, for methods that take part in the encoding. */
  readonly prepared: readonly PreparedImage[];
  /** Patches of all crops together. */
  readonly patches: number;
  readonly questions: readonly { readonly inputIds: Int32Array; readonly answer?: string }[];
}

/** The first `count` scenes that no training ever saw, each with one question of every type that it can answer. */
export function* scenePictures(count: number): Generator<AnalysedPicture> {
  for (let number = 0; number < count; number++) {
    const scene = generateScene(HELD_OUT_SEEDS.first + number);
    yield { image: { width: scene.size, height: scene.size, data: scene.pixels }, questions: sceneQuestions(scene) };
  }
}

/**
 * Encodes one picture after the other, with what `prune` needs of the encoder, and hands each to `use`.
 * @returns how many there were
 * @throws PromptError `NOTHING_ANALYSED` without a picture or a question, `TOKENS_DIFFER` when pictures have different numbers of patches; the signal's reason
 */
export async function forEachPicture(
  model: VisionLanguageModel,
  pictures: Iterable<AnalysedPicture>,
  { prune = [], signal, progress }: AnalysisOptions & { readonly prune?: readonly Prune[] },
  use: (picture: EncodedPicture) => Promise<void>,
): Promise<number> {
  let index = 0;
  let patches: number | undefined;
  for (const { image, questions } of pictures) {
    if (questions.length === 0)
      throw new PromptError('NOTHING_ANALYSED', `Picture ${index} has no question. Give at least one: what the text attends to is looked at.`);
    const prompts = questions.map(({ text, answer }) => ({ inputIds: promptOf(model, text), answer }));
    const prepared = await model.prepareImages([image], { signal });
    let images: EncodedImages | undefined;
    try {
      images = await model.encodeImages(prepared, { prune, signal });
      const count = images.images.reduce((sum, { grid, crops }) => sum + crops.length * grid.rows * grid.columns, 0);
      patches ??= count;
      if (count !== patches) {
        throw new PromptError(
          'TOKENS_DIFFER',
          `Picture ${index} has ${count} visual tokens, those before it ${patches}: attention by index can't be averaged. Analyse them apart.`,
        );
      }
      await use({ index, images, prepared, patches, questions: prompts });
    } finally {
      images?.dispose();
      tf.dispose(prepared.map(({ pixelValues }) => pixelValues));
    }
    index++;
    progress?.(index);
  }
  if (index === 0) throw new PromptError('NOTHING_ANALYSED', 'There is no picture to be analysed. Give at least one, with a question.');
  return index;
}

function promptOf({ chatProcessor }: VisionLanguageModel, text: string): Int32Array {
  return chatProcessor.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text }] }], 1);
}

/** Makes the encoder hand over the attention by which VisPruner ranks, and keeps all patches. */
export const CLASS_ATTENTION: Pruner = {
  name: 'class-attention',
  textDependent: false,
  positions: 'keep',
  needs: (encoder) => ({ attention: [rankingAttention(encoder)] }),
  enteringTokens: (patches, decoderBlocks) => new Array<number>(decoderBlocks).fill(patches),
  begin: () => ({ dispose() {} }),
};

/** The class token's attention to each patch (of an encoder without one, what each receives), averaged over heads; of all crops, end to end: [N]. */
export async function classAttention(model: VisionLanguageModel, { images }: EncodedPicture): Promise<Float32Array> {
  const key = attentionKey(rankingAttention(model.layers.encoder));
  const mean = tf.tidy(() => {
    const crops = images.images.flatMap((image) => image.crops.map(({ attention }) => tf.mean(attention.get(key) as tf.Tensor2D, 0)));
    return tf.concat(crops as tf.Tensor1D[], 0);
  });
  try {
    return (await mean.data()) as Float32Array;
  } finally {
    mean.dispose();
  }
}

/** @throws ConfigError `BAD_OPTION` unless `value` is a whole number from `least` to `most` */
export function checkWhole(value: number, name: string, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new ConfigError('BAD_OPTION', `Option "${name}" is ${value}. Give a whole number from ${least} to ${most}.`);
  }
  return value;
}
