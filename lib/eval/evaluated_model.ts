import { PromptError } from '../../layers/errors';
import type { ImageInput, PreparedImage } from '../image/types';
import type { VisionLanguageModel } from '../model';
import type { TokenModel } from '../token_model';

/** What an evaluation needs of a model with its tokenizer and image processor. */
export interface EvaluatedModel {
  readonly tokens: TokenModel;
  readonly imageToken: number;
  prepare(image: ImageInput, signal?: AbortSignal): Promise<PreparedImage>;
  /** Ids of the whole prompt up to the cue for the answer. */
  encodePrompt(question: string, withImage: boolean): Int32Array;
  decode(ids: ArrayLike<number>): string;
}

/** A loaded model as an evaluation asks it: with its own image processor, chat template and tokenizer. @throws PromptError `NO_VISION` for a language model alone */
export function evaluatedModel(model: VisionLanguageModel): EvaluatedModel {
  const { chatProcessor: chat } = model;
  const { imageToken } = chat;
  if (!imageToken) throw new PromptError('NO_VISION', 'This model has no vision tower: it can not be asked about images.');
  return {
    tokens: model,
    imageToken: imageToken.id,
    async prepare(image, signal) {
      const [prepared] = await model.prepareImages([image], { signal });
      return prepared as PreparedImage;
    },
    encodePrompt(question, withImage) {
      const text = { type: 'text' as const, text: question };
      return chat.encode([{ role: 'user', content: withImage ? [{ type: 'image' }, text] : [text] }], withImage ? 1 : 0);
    },
    decode: (ids) => chat.decode(ids),
  };
}
