import type { OptionNames } from '../weights/option_names';
import type { Choice } from './choices';
import type { KeptPatches } from './encoded';
import type { FinishReason, Timing, TokenOptions, Usage } from './generate';
import type { JsonSchema } from './grammar/json_schema';
import type { Aspect } from './image/preprocessor_config';
import type { ImageInput, PreparedImage } from './image/types';
import type { PromptCache } from './prompt_cache';
import type { TextLogprobs } from './text_logprobs';
import { type EncodedImages, GENERATE_OPTIONS, type RunOptions } from './token_request';

/** An image to be decoded, or one that is prepared or encoded already. */
export type QuestionImages = ImageInput | PreparedImage | EncodedImages | readonly (ImageInput | PreparedImage)[];

export interface AskOptions extends RunOptions, TokenOptions {
  /** How an image that is no square is fitted; default: what the checkpoint says. */
  readonly aspect?: Aspect;
  /** The answer ends before the first of these. */
  readonly stop?: string | readonly string[];
  /** Goes on from what an earlier call left in it. Images are recognised only as the same `EncodedImages`; `chat()` sees to that by itself. */
  readonly cache?: PromptCache;
  /**
   * Answers with the one of these texts that the model holds likeliest, by the mean log-probability of its tokens; `answer.choices` has all of them. Options
   * that say how text is drawn do not go with it.
   */
  readonly choices?: readonly string[];
  /**
   * A JSON Schema that the answer keeps to, whatever the model would write without it: `JSON.parse(answer.text)` gives a value of it, unless `finishReason`
   * is `length`. With zod: `schema: z.toJSONSchema(type)`. docs/schema.md says what a schema may have.
   */
  readonly schema?: JsonSchema;
  /** Called with each token as it is drawn, before the text that it completes comes. */
  readonly onToken?: (token: WrittenToken) => void;
}

export interface WrittenToken {
  readonly id: number;
  /** Where `logprobs` were asked for. */
  readonly logprobs?: TextLogprobs;
}

export const ASK_OPTIONS: OptionNames<AskOptions> = {
  ...GENERATE_OPTIONS,
  aspect: true,
  stop: true,
  cache: true,
  choices: true,
  schema: true,
  onToken: true,
};

export interface Answer {
  readonly text: string;
  /** Ids of the text, also of a stop string that was cut off. */
  readonly ids: Int32Array;
  /** `length` when it was cut at the most tokens that it may have; `stop` when it ended by itself, at a stop string, or was chosen. */
  readonly finishReason: FinishReason;
  /** One for each of `ids`, where they were asked for. */
  readonly logprobs?: readonly TextLogprobs[];
  /** All that were to choose from, best first. */
  readonly choices?: readonly Choice[];
  /** What was kept of each crop of each image. */
  readonly visual: readonly KeptPatches[];
  readonly usage: Usage;
  readonly timing: Timing;
}

export function asList<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value as T];
}
