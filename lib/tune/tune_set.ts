import * as tf from '@tensorflow/tfjs';
import { PromptError } from '../../layers/errors';
import { disposeEncoded } from '../encoded';
import type { ImageInput } from '../image/types';
import type { EncodedRequest, Llava } from '../llava';
import type { VisionLanguageModel } from '../model';
import { Pacer } from '../pacer';
import type { BudgetFacts } from '../prune/method';
import type { Needs, Pruner } from '../prune/types';

/** A question about an image; the image is read when its turn comes. */
export interface TuneSample {
  readonly question: string;
  image(signal?: AbortSignal): Promise<ImageInput>;
}

/** Where a prompt ends in the decoder. */
export interface PromptEnd {
  /** The last row's state behind the last block, [1, D]; borrowed for the call. */
  readonly state: tf.Tensor2D;
  /** Visual tokens that entered each block. */
  readonly entering: readonly number[];
}

/** Prompts whose images are encoded, to be run again and again with other pruners. Dispose it when done. */
export class TuneSet {
  private readonly pacer: Pacer;

  /** Owns what the requests hold of encoded images. */
  constructor(
    readonly llava: Llava,
    readonly prompts: readonly EncodedRequest[],
    signal?: AbortSignal,
  ) {
    this.pacer = new Pacer(signal);
  }

  /** The depth of decoder and encoder, and N of a crop of the first image. */
  get facts(): BudgetFacts {
    const { rows, columns } = this.prompts[0]?.images[0]?.grid ?? { rows: 0, columns: 0 };
    const { language, encoder } = this.llava;
    return { patches: rows * columns, decoderBlocks: language.blocks.length, encoderBlocks: encoder.featureBlock + 1 };
  }

  /** Runs one prompt through the decoder. @throws the signal's reason */
  async run<T>(prompt: EncodedRequest, pruner: Pruner, use: (end: PromptEnd) => Promise<T>): Promise<T> {
    const { result, prompts } = await this.llava.prefill([prompt], { pruner, pacer: this.pacer, lastRows: true });
    for (const one of prompts) one.release();
    try {
      return await use({ state: result.states, entering: result.enteringTokens[0] ?? [] });
    } finally {
      result.states.dispose();
    }
  }

  /** Log-probabilities of the token behind a prompt, [vocabulary]. */
  logProbabilities(prompt: EncodedRequest, pruner: Pruner): Promise<Float32Array> {
    return this.run(prompt, pruner, async ({ state }) => {
      const found = tf.tidy(() => tf.logSoftmax(this.llava.language.logits(state)));
      try {
        return (await found.data()) as Float32Array;
      } finally {
        found.dispose();
      }
    });
  }

  dispose(): void {
    for (const { images } of this.prompts) disposeEncoded(images);
  }
}

/**
 * Encodes the images of samples as `needs` have it, and writes their prompts with the model's own chat template.
 * @throws PromptError `NO_VISION`; ImageError; the signal's reason
 */
export async function encodeSamples(
  model: VisionLanguageModel,
  samples: readonly TuneSample[],
  needs: Needs,
  options: { readonly progress?: (done: number, total: number) => void; readonly signal?: AbortSignal } = {},
): Promise<TuneSet> {
  const { layers: llava, chatProcessor: chat } = model;
  if (!chat.imageToken) throw new PromptError('NO_VISION', 'This model has no vision tower: there are no visual tokens to prune.');
  const pacer = new Pacer(options.signal);
  const prompts: EncodedRequest[] = [];
  try {
    for (const [i, { question, image }] of samples.entries()) {
      const prepared = await model.prepareImages([await image(options.signal)], { signal: options.signal });
      const images = await llava.encode(prepared, [needs], { pacer }).finally(() => {
        for (const { pixelValues } of prepared) pixelValues.dispose();
      });
      const inputIds = chat.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: question }] }], 1);
      prompts.push({ inputIds, images, question });
      options.progress?.(i + 1, samples.length);
    }
    return new TuneSet(llava, prompts, options.signal);
  } catch (error) {
    for (const { images } of prompts) disposeEncoded(images);
    throw error;
  }
}
