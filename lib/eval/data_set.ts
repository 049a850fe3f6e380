import type { ImageInput } from '../image/types';

/** How answers are scored: a row of `METRICS`. */
export type MetricName = 'word' | 'gqa' | 'vqa' | 'textvqa' | 'choice' | 'pope' | 'mme';

/** What is known of the right answer: one text, or those of several people. */
export type Reference = string | readonly string[];

/** One question about an image, as a data set asks it. */
export interface EvalQuestion {
  /** Unique in its data set. */
  readonly id: string;
  /** What it is counted with in tables: its type, task or split. */
  readonly group: string;
  /** The whole text that the model is asked, with what the data set adds to each question. */
  readonly text: string;
  readonly reference: Reference;
  /** How many letters from A on can be an answer; of multiple choice. */
  readonly choices?: number;
  /** Questions that count together as well: right when all of them are. */
  readonly bundle?: string;
}

/** Questions about images. Those about one image are asked together and share its encoding. */
export interface DataSet {
  readonly name: string;
  /** Says whether two runs were asked the same: a digest of the questions, not of the images. */
  readonly digest: string;
  /** How answers are scored. */
  readonly metric: MetricName;
  /** Tokens that an answer may have; of answers with one, the first token is all that is computed. */
  readonly maxNewTokens: number;
  /** How many images there are; may be infinite. */
  readonly images: number;
  questions(image: number): readonly EvalQuestion[];
  image(image: number, signal?: AbortSignal): Promise<ImageInput>;
}

/** The images, from the first, that hold at least `questions` questions, and how many they hold. */
export function imagesFor(data: DataSet, questions: number): { readonly images: number; readonly questions: number } {
  let images = 0;
  let asked = 0;
  for (; images < data.images && asked < questions; images++) asked += data.questions(images).length;
  return { images, questions: asked };
}
