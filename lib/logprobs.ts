import { BackendError, PromptError } from '../layers/errors';

/** A token and the natural logarithm of its probability. */
export interface ScoredToken {
  readonly id: number;
  readonly logprob: number;
}

/** A token that was written, and what was likeliest in its place. */
export interface TokenLogprobs extends ScoredToken {
  /** The most likely tokens, best first, of equal ones the lower id first; the written one is among them only if it is one of these. */
  readonly top: readonly ScoredToken[];
}

/** As many alternatives a token as OpenAI's interface gives. */
export const MAX_LOGPROBS = 20;

/** @throws PromptError `BAD_LOGPROBS` */
export function checkLogprobs(count: number | undefined): void {
  if (count === undefined || (Number.isInteger(count) && count >= 0 && count <= MAX_LOGPROBS)) return;
  throw new PromptError(
    'BAD_LOGPROBS',
    `Option "logprobs" is ${String(count)}; give a whole number from 0 to ${MAX_LOGPROBS}: how many alternatives of each token you want.`,
  );
}

/** Where the largest logit is, of equal ones the first; undefined when nothing can be drawn: NaN or plus infinity somewhere, or all ruled out. */
export function likeliest(logits: Float32Array): number | undefined {
  let largest = Number.NEGATIVE_INFINITY;
  let best: number | undefined;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit <= largest) continue;
    if (!(logit < Number.POSITIVE_INFINITY)) return undefined; // NaN is neither
    largest = logit;
    best = id;
  }
  return best;
}

/**
 * @returns where the largest logit is
 * @throws BackendError `LOGITS_NOT_FINITE` when a model's own logits can't be drawn from; `place` of the token that was to come, from 0
 */
export function checkLogits(logits: Float32Array, place: number): number {
  const best = likeliest(logits);
  if (best !== undefined) return best;
  throw new BackendError(
    'LOGITS_NOT_FINITE',
    `The model's logits of token ${place + 1} hold NaN or infinity: its weights are damaged, or numbers overflowed. Look for damage with vispruner inspect --check-finite, and at the image's pixels.`,
  );
}

/** The logarithm of the sum of exponentials: a logit less this is a log-probability. Taken in double precision. */
export function logSumExp(logits: Float32Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) if ((logits[id] as number) > largest) largest = logits[id] as number;
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp((logits[id] as number) - largest);
  return largest + Math.log(sum);
}

/** `logits` [vocabulary] as the model's head gave them; `count` alternatives. */
export function tokenLogprobs(logits: Float32Array, id: number, count: number): TokenLogprobs {
  const total = logSumExp(logits);
  const best: number[] = [];
  for (let other = 0; other < logits.length; other++) {
    const logit = logits[other] as number;
    if (best.length === count && !(count > 0 && logit > (logits[best[count - 1] as number] as number))) continue;
    let place = best.length;
    while (place > 0 && logit > (logits[best[place - 1] as number] as number)) place--;
    best.splice(place, 0, other);
    if (best.length > count) best.pop();
  }
  const scored = (one: number): ScoredToken => ({ id: one, logprob: (logits[one] as number) - total });
  return { ...scored(id), top: best.map(scored) };
}
