import { checkOptionNames, type OptionNames } from '../weights/option_names';
import { userMessage } from './conversation';
import type { ImageInput } from './image/types';
import type { VisionLanguageModel } from './model';
import { observeText } from './prune/sgl';
import type { TokenModel } from './token_model';
import type { TokenRequest } from './token_request';

export interface GuidanceOptions {
  /** Tokens of the small model's answer at most; default: as `generate`. */
  readonly maxNewTokens?: number;
  /** Share of visual tokens with which the answer has to be consistent; default 0.05. */
  readonly keepRatio?: number;
  readonly signal?: AbortSignal;
}

const GUIDANCE_OPTIONS: OptionNames<GuidanceOptions> = { maxNewTokens: true, keepRatio: true, signal: true };

/** What a small model says of a question, and how sure it is. */
export interface Guidance {
  readonly text: string;
  readonly ids: Int32Array;
  /** For the large model's `{ method: 'sgl', importance }`: one value a visual token. */
  readonly importance: Float32Array;
  /** Geometric mean of the probabilities of its tokens, 0 to 1; 0 for an answer without a token. */
  readonly confidence: number;
  /** Probability of the whole answer when only its most important visual tokens are kept, from block 0 on; 0 to 1. */
  readonly consistency: number;
}

/**
 * The importance of a prompt's visual tokens by SGL (https://arxiv.org/abs/2412.03324): attention that they get from the text and from the answer, summed over
 * all blocks and heads of a model, usually a smaller one than that which it will guide. Both need the same grid of patches.
 *
 * @param written the answer's ids without the last one that was drawn: a model looks back from every token but that
 * @returns [visual tokens]; empty for a prompt without an image
 * @throws what `generate` throws
 */
export async function sglImportance(
  model: TokenModel,
  request: Omit<TokenRequest, 'cache'>,
  written: Int32Array | readonly number[],
  signal?: AbortSignal,
): Promise<Float32Array> {
  const observer = observeText();
  await model.generate(
    { ...request, inputIds: [...request.inputIds, ...written] },
    { prune: observer.pruner, maxNewTokens: 1, temperature: 0, signal },
  );
  return observer.importance();
}

/**
 * A small model's answer, the importance that guides a large one, and what decides whether the large one is needed at all (SEE, "small VLM early exiting").
 * The authors exit when a combination of confidence and consistency (their mean or product) passes a threshold of one's own choice.
 *
 * ```ts
 * const guidance = await sglGuidance(small, 'cat.jpg', 'What does the cat look at?');
 * const sure = (guidance.confidence + guidance.consistency) / 2 > 0.8;
 * const text = sure ? guidance.text : (await large.ask('cat.jpg', question, { prune: { method: 'sgl', importance: guidance.importance, keepRatio: 0.1 } })).text;
 * ```
 */
export async function sglGuidance(
  model: VisionLanguageModel,
  images: ImageInput | readonly ImageInput[],
  question: string,
  options: GuidanceOptions = {},
): Promise<Guidance> {
  checkOptionNames(options, GUIDANCE_OPTIONS, 'sglGuidance');
  const { maxNewTokens, keepRatio = 0.05, signal } = options;
  const list = Array.isArray(images) ? (images as readonly ImageInput[]) : [images as ImageInput];
  const chat = model.chatProcessor;
  const prepared = await model.prepareImages(list, { signal });
  try {
    const encoded = await model.encodeImages(prepared, { signal });
    try {
      const message = userMessage(question, list.length, chat.imageToken?.text);
      const request = { inputIds: chat.encode([message], list.length), images: encoded, question };
      const { ids, logprobs = [], finishReason } = await model.generate(request, { maxNewTokens, temperature: 0, logprobs: 0, signal });
      const importance = await sglImportance(model, request, finishReason === 'stop' ? ids : ids.subarray(0, -1), signal);
      const text = chat.decode(ids);
      if (ids.length === 0) return { text, ids, importance, confidence: 0, consistency: 0 };
      const mean = logprobs.reduce((sum, { logprob }) => sum + logprob, 0) / logprobs.length;
      const { scores } = await model.score(request, [ids], { prune: { method: 'sgl', importance, layer: 0, keepRatio }, signal });
      return { text, ids, importance, confidence: Math.exp(mean), consistency: Math.exp(scores[0]?.logprob ?? Number.NEGATIVE_INFINITY) };
    } finally {
      encoded.dispose();
    }
  } finally {
    for (const { pixelValues } of prepared) pixelValues.dispose();
  }
}
