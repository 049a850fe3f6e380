import { type Proportion, wilson } from '../eval';
import type { VisionLanguageModel } from '../model';
import type { Prune } from '../token_request';
import type { EncodedPicture } from './pictures';

/** How answers under some condition compare with the unpruned model's and with the right ones. */
export interface AnswerQuality {
  /** First tokens that are those of the unpruned model. */
  readonly agreement: Proportion;
  /** Those that are the right answer, of the questions that have one; none: `total` is 0. */
  readonly accuracy: Proportion;
}

/** Accuracy where answers are known, else agreement with the unpruned model. */
export function measureOf(full: AnswerQuality): { readonly name: string; readonly of: (quality: AnswerQuality) => Proportion } {
  return full.accuracy.total > 0 ? { name: 'accuracy', of: ({ accuracy }) => accuracy } : { name: 'agreement', of: ({ agreement }) => agreement };
}

/** Prompts that go through the decoder together. */
const PACKED = 8;

/** The first token that greedy generation writes after each of a picture's questions. */
export async function firstAnswers(
  model: VisionLanguageModel,
  { images, questions }: EncodedPicture,
  prune: Prune,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const first: number[] = [];
  for (let start = 0; start < questions.length; start += PACKED) {
    const requests = questions.slice(start, start + PACKED).map(({ inputIds }) => ({ inputIds, images }));
    const results = await model.generateBatch(requests, { prune, maxNewTokens: 1, minNewTokens: 1, signal });
    for (const { ids } of results) first.push(ids[0] as number);
  }
  return first;
}

/** Counts answers under one condition. */
export class AnswerCount {
  private asked = 0;
  private alike = 0;
  private answered = 0;
  private right = 0;

  constructor(private readonly decode: (id: number) => string) {}

  add(ids: readonly number[], full: readonly number[], questions: EncodedPicture['questions']): void {
    for (const [i, { answer }] of questions.entries()) {
      this.asked++;
      if (ids[i] === full[i]) this.alike++;
      if (answer === undefined) continue;
      this.answered++;
      if (this.decode(ids[i] as number) === answer) this.right++;
    }
  }

  get quality(): AnswerQuality {
    return { agreement: wilson({ right: this.alike, total: this.asked }), accuracy: wilson({ right: this.right, total: this.answered }) };
  }
}
