import type { EvalQuestion } from './data_set';

/** Milliseconds of one question that was asked alone, its image encoded for it. */
export interface QuestionTime {
  readonly encode: number;
  readonly select: number;
  readonly prefill: number;
  /** Tokens after the first. */
  readonly decode: number;
  readonly total: number;
}

/** One question with its answers. */
export interface AnsweredQuestion extends EvalQuestion {
  /** What the model said, by the key of the condition. */
  readonly said: Readonly<Record<string, string>>;
}

/** Everything that was asked about one image: a line of a results file. */
export interface ImageRecord {
  readonly image: number;
  readonly questions: readonly AnsweredQuestion[];
  /** Visual tokens that entered a decoder block, averaged over blocks and questions, by the key of the condition. */
  readonly entering: Readonly<Record<string, number>>;
  /** Of the image's first question, by the key of the condition; of the images that were timed. */
  readonly time?: Readonly<Record<string, QuestionTime>>;
}
