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
