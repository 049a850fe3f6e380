import { checkSampling } from './sampler';

/** What a processor may know of the request whose next token is to be drawn. */
export interface LogitsContext {
  /** Which request of the batch, from 0. */
  readonly request: number;
  /** The prompt as it was given: one image token an image, or one a visual token. */
  readonly promptIds: Int32Array;
  /** Written so far. */
  readonly ids: readonly number[];
}

/**
 * Changes the logits [vocabulary] of the next token before it is drawn: in place, or by returning others of the same length. Minus infinity rules a
 * token out.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: a processor that works in place returns nothing
export type LogitsProcessor = (logits: Float32Array, context: LogitsContext) => Float32Array | void;

/**
 * Makes tokens that were there already, in the prompt or in the answer, less likely (Keskar et al. 2019, https://arxiv.org/abs/1909.05858): a positive
 * logit is divided by the penalty, a negative one multiplied with it; once, however often the token was there. As transformers'
 * `RepetitionPenaltyLogitsProcessor`.
 *
 * @param penalty above 0; 1 changes nothing, below 1 repetition is rewarded
 * @throws PromptError `BAD_SAMPLING`
 */
export function repetitionPenalty(penalty: number): LogitsProcessor {
  checkSampling('repetitionPenalty', penalty, Number.isFinite(penalty) && penalty > 0, 'a finite number above 0');
  return (logits, { promptIds, ids }) => {
    for (const id of new Set([...promptIds, ...ids])) {
      const logit = logits[id];
      if (logit !== undefined) logits[id] = logit < 0 ? logit * penalty : logit / penalty;
    }
  };
}

/**
 * Takes from the logit of each token written so far `frequency` for each time that it was written and `presence` once, as OpenAI's `frequency_penalty`
 * and `presence_penalty`; the prompt does not count.
 *
 * @throws PromptError `BAD_SAMPLING`
 */
export function frequencyPenalty({ frequency = 0, presence = 0 }: { readonly frequency?: number; readonly presence?: number }): LogitsProcessor {
  checkSampling('frequencyPenalty', frequency, Number.isFinite(frequency), 'a finite number');
  checkSampling('presencePenalty', presence, Number.isFinite(presence), 'a finite number');
  return (logits, { ids }) => {
    const counts = new Map<number, number>();
    for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
    for (const [id, count] of counts) logits[id] = (logits[id] as number) - count * frequency - presence;
  };
}

/**
 * Adds to logits, by token id: -100 all but bans a token, 100 all but forces it. As OpenAI's `logit_bias`, and transformers'
 * `SequenceBiasLogitsProcessor` of single tokens.
 *
 * @throws PromptError `BAD_SAMPLING`, also at the first token for an id outside the vocabulary
 */
export function logitBias(biases: Readonly<Record<number, number>>): LogitsProcessor {
  const entries = Object.entries(biases).map(([id, bias]) => [Number(id), bias] as const);
  for (const [id, bias] of entries) {
    checkId('logitBias', id);
    checkSampling(`logitBias[${id}]`, bias, typeof bias === 'number' && bias < Number.POSITIVE_INFINITY, 'a number below infinity');
  }
  return (logits) => {
    for (const [id, bias] of entries) logits[known('logitBias', id, logits)] = (logits[id] as number) + bias;
  };
}

/**
 * Tokens that are never written. As transformers' `SuppressTokensLogitsProcessor`.
 * @throws PromptError `BAD_SAMPLING`, also at the first token for an id outside the vocabulary
 */
export function suppressTokens(ids: Iterable<number>): LogitsProcessor {
  const all = [...ids];
  for (const id of all) checkId('suppressTokens', id);
  return (logits) => {
    for (const id of all) logits[known('suppressTokens', id, logits)] = Number.NEGATIVE_INFINITY;
  };
}

function checkId(name: string, id: number): void {
  checkSampling(name, id, Number.isInteger(id) && id >= 0, 'token ids: whole numbers of at least 0');
}

function known(name: string, id: number, logits: Float32Array): number {
  checkSampling(name, id, id < logits.length, `token ids below ${logits.length}, the size of the vocabulary`);
  return id;
}
