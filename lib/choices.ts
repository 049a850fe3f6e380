import { PromptError } from '../layers/errors';
import type { AskOptions } from './answer';
import type { ContinuationScore } from './score';

/** One of the answers that were to choose from. */
export interface Choice {
  readonly text: string;
  readonly ids: Int32Array;
  /** Natural logarithm of the probability that the model writes this text: the sum over its tokens. */
  readonly logprob: number;
  /** The mean over its tokens, by which choices are ranked: longer ones are at no disadvantage. */
  readonly meanLogprob: number;
  /** Among the choices: the softmax of their `meanLogprob`. The probabilities of all choices sum to 1. */
  readonly probability: number;
}

/** What says how text is drawn means nothing where none is drawn. */
const NOT_WITH_CHOICES = [
  'temperature',
  'topP',
  'topK',
  'seed',
  'maxNewTokens',
  'minNewTokens',
  'stop',
  'logprobs',
  'logitsProcessor',
  'onToken',
] as const;

/** @throws PromptError `BAD_CHOICES`, `OPTION_CONFLICT` */
export function checkChoices(options: AskOptions): void {
  const { choices } = options;
  if (choices === undefined) return;
  if (!Array.isArray(choices) || choices.length === 0) throw new PromptError('BAD_CHOICES', 'Option "choices" has no choice; give one text or more.');
  for (const [i, choice] of choices.entries()) {
    if (typeof choice !== 'string' || choice.trim() === '') {
      throw new PromptError('BAD_CHOICES', `Choice ${i} of ${choices.length} is ${JSON.stringify(choice)}; each must be a text.`);
    }
    const before = choices.findIndex((other) => other.trim() === choice.trim());
    if (before < i) throw new PromptError('BAD_CHOICES', `Choices ${before} and ${i} are both "${choice.trim()}"; give each once.`);
  }
  const other = NOT_WITH_CHOICES.find((name) => options[name] !== undefined);
  if (other !== undefined) {
    throw new PromptError(
      'OPTION_CONFLICT',
      `Option "${other}" is for answers that are written; with "choices" nothing is drawn. Leave one of the two out.`,
    );
  }
}

/** Best first; of equal ones, in the order in which they were given. */
export function rankChoices(texts: readonly string[], scores: readonly ContinuationScore[]): Choice[] {
  const best = Math.max(...scores.map(({ meanLogprob }) => meanLogprob));
  const weights = scores.map(({ meanLogprob }) => Math.exp(meanLogprob - best));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return scores
    .map(({ ids, logprob, meanLogprob }, i) => {
      return { text: texts[i] as string, ids, logprob, meanLogprob, probability: (weights[i] as number) / total };
    })
    .sort((a, b) => b.meanLogprob - a.meanLogprob); // stable
}
