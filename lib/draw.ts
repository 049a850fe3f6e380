import { PromptError } from '../layers/errors';
import type { OptionNames } from '../weights/option_names';
import type { LogitsContext, LogitsProcessor } from './logits_processors';
import { checkLogits, checkLogprobs, likeliest, type TokenLogprobs, tokenLogprobs } from './logprobs';
import { Sampler, type SamplingOptions } from './sampler';

/** How the next token comes from the logits: processors in their order, then temperature, top-k, top-p and the draw. */
export interface DrawOptions extends SamplingOptions {
  /** One or several, run in order on a copy of the logits before temperature, top-k and top-p. */
  readonly logitsProcessor?: LogitsProcessor | readonly LogitsProcessor[];
  /**
   * Also returns the log-probability of each token written and of this many alternatives, 0 to 20. They are those of the model itself: the log-softmax of
   * its logits, before processors, temperature, top-k and top-p. Left out, none.
   */
  readonly logprobs?: number;
  /** End-of-sequence tokens are not drawn before so many were written; whole, default 0. As transformers' `min_new_tokens`; stop strings still stop. */
  readonly minNewTokens?: number;
}

export const DRAW_OPTIONS: OptionNames<DrawOptions> = {
  temperature: true,
  topP: true,
  topK: true,
  seed: true,
  logitsProcessor: true,
  logprobs: true,
  minNewTokens: true,
};

/** A token that was drawn; `logprobs` where they were asked for. */
export interface DrawnToken {
  readonly id: number;
  readonly logprobs?: TokenLogprobs;
}

/** Draws the tokens of one request. */
export class TokenDraw {
  private readonly sampler: Sampler;
  private readonly processors: readonly LogitsProcessor[];
  private readonly minNewTokens: number;

  /** @throws PromptError `BAD_SAMPLING`, `BAD_LOGPROBS`, `BAD_MIN_NEW_TOKENS` */
  constructor(
    private readonly options: DrawOptions,
    private readonly request: Omit<LogitsContext, 'ids'>,
    private readonly endIds: ReadonlySet<number>,
  ) {
    const { minNewTokens = 0, logprobs, logitsProcessor = [] } = options;
    this.sampler = new Sampler(options, request.request);
    checkLogprobs(logprobs);
    if (!Number.isInteger(minNewTokens) || minNewTokens < 0) {
      throw new PromptError('BAD_MIN_NEW_TOKENS', `Option "minNewTokens" is ${minNewTokens}; give a whole number of at least 0.`);
    }
    this.minNewTokens = minNewTokens;
    this.processors = typeof logitsProcessor === 'function' ? [logitsProcessor] : logitsProcessor;
  }

  get givesLogprobs(): boolean {
    return this.options.logprobs !== undefined;
  }

  /**
   * @param logits [vocabulary], the model's own; they are not changed
   * @param ids written so far
   * @throws BackendError `LOGITS_NOT_FINITE`
   * @throws PromptError `BAD_LOGITS_PROCESSOR`
   */
  next(logits: Float32Array, ids: readonly number[]): DrawnToken {
    const best = checkLogits(logits, ids.length);
    const processed = this.processed(logits, ids);
    const id = processed === logits ? this.sampler.next(logits, best) : this.sampler.next(processed);
    const { logprobs } = this.options;
    return logprobs === undefined ? { id } : { id, logprobs: tokenLogprobs(logits, id, logprobs) };
  }

  private processed(logits: Float32Array, ids: readonly number[]): Float32Array {
    const early = ids.length < this.minNewTokens;
    if (!early && this.processors.length === 0) return logits;
    let current: Float32Array = logits.slice();
    if (early) for (const id of this.endIds) if (id < current.length) current[id] = Number.NEGATIVE_INFINITY;
    for (const [i, processor] of this.processors.entries()) {
      const returned = processor(current, { ...this.request, ids }) ?? current;
      if (returned.length !== logits.length || likeliest(returned) === undefined) throw badProcessor(i, returned, logits.length);
      current = returned;
    }
    return current;
  }
}

function badProcessor(place: number, returned: Float32Array, vocabulary: number): PromptError {
  let what = 'NaN or plus infinity among its logits';
  if (returned.length !== vocabulary) what = `${returned.length} logits; the vocabulary has ${vocabulary}`;
  else if (returned.every((logit) => logit === Number.NEGATIVE_INFINITY)) what = 'minus infinity for every token, so that none can be drawn';
  return new PromptError('BAD_LOGITS_PROCESSOR', `Logits processor ${place} left ${what}. Return one number a token, at least one of them finite.`);
}
