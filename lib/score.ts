import * as tf from '@tensorflow/tfjs';
import { PromptError } from '../layers/errors';
import { prefill } from './decoder';
import type { EncodedRequest, ForwardOptions, Llava, Prefilled, PrefilledRequests } from './llava';
import { checkLogits, logSumExp } from './logprobs';
import type { Sequence } from './sequence';

/** What a model thinks of a text that could follow a prompt. */
export interface ContinuationScore {
  readonly ids: Int32Array;
  /** Natural logarithm of each token's probability, given the prompt and the tokens before it. */
  readonly logprobs: Float32Array;
  /** Their sum: of the probability of the whole continuation. */
  readonly logprob: number;
  /** Their mean, by which continuations of different lengths are compared. */
  readonly meanLogprob: number;
}

export interface Scored {
  readonly scores: readonly ContinuationScore[];
  readonly prompt: Prefilled;
  /** Patches that entered each block. */
  readonly entering: readonly number[];
  readonly timing: PrefilledRequests['timing'];
}

/** Continuations that go through the decoder together; each has a copy of the prompt's cache meanwhile. */
const PACKED = 8;
/** Rows of logits that are held at once: [64, 32000] in float32 is 8 MB. */
const LOGIT_ROWS = 64;

/**
 * Runs the prompt once, and each continuation from there on in a fork of its cache, several as packed rows. What pruners dropped of the prompt stays
 * dropped, as in generation.
 *
 * @param continuations each of at least one id of the vocabulary, none the image token
 */
export async function scoreContinuations(
  llava: Llava,
  request: EncodedRequest,
  continuations: readonly Int32Array[],
  options: ForwardOptions,
): Promise<Scored> {
  const { result, prompts, timing } = await llava.prefill([request], { ...options, lastRows: true });
  const prompt = prompts[0] as Prefilled;
  try {
    const scorer = new Scorer(llava, result.states, options);
    const logprobs: Float32Array[] = [];
    for (let i = 0; i < continuations.length; i += PACKED) logprobs.push(...(await scorer.run(prompt.sequence, continuations.slice(i, i + PACKED))));
    const scores = continuations.map((ids, i) => scoreOf(ids, logprobs[i] as Float32Array));
    return { scores, prompt, entering: result.enteringTokens[0] ?? [], timing };
  } finally {
    result.states.dispose();
    prompt.release();
  }
}

class Scorer {
  constructor(
    private readonly llava: Llava,
    /** The prompt's last row behind the last block, [1, D]. */
    private readonly last: tf.Tensor2D,
    private readonly options: ForwardOptions,
  ) {}

  /** Log-probabilities of each continuation's tokens. */
  async run(prompt: Sequence, continuations: readonly Int32Array[]): Promise<Float32Array[]> {
    const longer = continuations.filter(({ length }) => length > 1);
    const following = longer.length === 0 ? undefined : await this.following(prompt, longer);
    try {
      // row 0 is the prompt's last one, which says how likely every first token is; then the rows of the longer continuations, one after another
      let row = 1;
      const tokens = continuations.map((ids) => Array.from(ids, (id, place) => ({ row: place === 0 ? 0 : row++, id, place })));
      const results = continuations.map(({ length }) => new Float32Array(length));
      await this.logprobs(following, tokens, results);
      return results;
    } finally {
      following?.dispose();
    }
  }

  /** States behind the last block of all tokens but each continuation's last, [R, D]; the caller disposes them. */
  private async following(prompt: Sequence, continuations: readonly Int32Array[]): Promise<tf.Tensor2D> {
    const inputs = continuations.map((ids) => ({
      sequence: prompt.fork(),
      states: this.llava.language.embed(ids.subarray(0, -1)),
      visualRows: new Int32Array(0),
    }));
    try {
      return (await prefill(this.llava.language, inputs, this.options)).states;
    } finally {
      for (const { sequence, states } of inputs) {
        sequence.dispose();
        states.dispose();
      }
    }
  }

  /** Fills in each token's log-probability, by its row; `following` are rows 1 and on. */
  private async logprobs(following: tf.Tensor2D | undefined, tokens: readonly (readonly Place[])[], results: readonly Float32Array[]): Promise<void> {
    const count = 1 + (following?.shape[0] ?? 0);
    for (let start = 0; start < count; start += LOGIT_ROWS) {
      const end = Math.min(count, start + LOGIT_ROWS);
      const logits = tf.tidy(() => {
        const states = following ? tf.concat([this.last, following], 0) : this.last;
        return this.llava.language.logits(tf.slice(states, [start, 0], [end - start, -1]), this.options.tap);
      });
      try {
        const values = (await logits.data()) as Float32Array;
        const width = logits.shape[1];
        for (const [i, places] of tokens.entries()) {
          for (const { row, id, place } of places) {
            if (row < start || row >= end) continue;
            const own = values.subarray((row - start) * width, (row - start + 1) * width);
            checkLogits(own, place);
            (results[i] as Float32Array)[place] = (own[id] as number) - logSumExp(own);
          }
        }
      } finally {
        logits.dispose();
      }
      await this.options.pacer.pause();
    }
  }
}

/** A token of a continuation, and the row of logits that says how likely it is. */
interface Place {
  readonly row: number;
  readonly id: number;
  readonly place: number;
}

function scoreOf(ids: Int32Array, logprobs: Float32Array): ContinuationScore {
  const logprob = logprobs.reduce((sum, one) => sum + one, 0);
  return { ids, logprobs, logprob, meanLogprob: logprob / ids.length };
}

/** @throws PromptError `BAD_CONTINUATION` */
export function checkContinuations(
  continuations: readonly (Int32Array | readonly number[])[],
  vocabulary: number,
  imageToken: number | undefined,
): Int32Array[] {
  const fail = (what: string) => new PromptError('BAD_CONTINUATION', what);
  if (continuations.length === 0) throw fail('There is no continuation to be scored; give at least one.');
  return continuations.map((ids, i) => {
    if (ids.length === 0) throw fail(`Continuation ${i} has no token; each needs at least one.`);
    for (const [place, id] of ids.entries()) {
      if (!Number.isInteger(id) || id < 0 || id >= vocabulary || id === imageToken) {
        const known = `the vocabulary has whole ids from 0 to ${vocabulary - 1}, and a continuation has text only`;
        throw fail(`Token ${place} of continuation ${i} is ${String(id)}${id === imageToken ? ', the image token' : ''}; ${known}.`);
      }
    }
    return Int32Array.from(ids);
  });
}
