import { PromptError } from '../layers/errors';
import { Random } from './random';

/** How the next token is drawn from the logits. */
export interface SamplingOptions {
  /** 0 (default) takes the most likely token; above 0 the logits are divided by it before the draw. */
  readonly temperature?: number;
  /** Draws among the fewest most likely tokens whose probabilities sum to this or more; in (0, 1], default 1. */
  readonly topP?: number;
  /** Draws among this many most likely tokens, and those that are as likely as the last of them; 0 (default) means all. */
  readonly topK?: number;
  /** Whole, 0 to 2^32 - 1. The same seed gives the same answer on the same backend. Default 0. */
  readonly seed?: number;
}

/** Tokens that may be drawn, with their unnormalised probabilities. */
export interface Candidates {
  readonly ids: readonly number[];
  readonly weights: readonly number[];
}

/**
 * Draws tokens for one sequence: temperature, then top-k, then top-p, as transformers' `TemperatureLogitsWarper`, `TopKLogitsWarper` and
 * `TopPLogitsWarper`.
 *
 * Differs from the reference: where equal logits lie across the border of top-p, the lower ids stay (there it depends on the sort).
 */
export class Sampler {
  private readonly temperature: number;
  private readonly topP: number;
  private readonly topK: number;
  private readonly random: Random;

  /**
   * `sequence` gives packed sequences with one seed draws of their own.
   * @throws PromptError `BAD_SAMPLING`
   */
  constructor({ temperature = 0, topP = 1, topK = 0, seed = 0 }: SamplingOptions, sequence = 0) {
    checkSampling('temperature', temperature, temperature >= 0 && Number.isFinite(temperature), 'a finite number of at least 0');
    checkSampling('topP', topP, topP > 0 && topP <= 1, 'a number above 0 and at most 1');
    checkSampling('topK', topK, Number.isInteger(topK) && topK >= 0, 'a whole number of at least 0');
    checkSampling('seed', seed, Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32, 'a whole number from 0 to 4294967295');
    this.temperature = temperature;
    this.topP = topP;
    this.topK = topK;
    this.random = new Random(seed, sequence);
  }

  /** logits [vocabulary], at least one finite -> an id; of equal logits, the lowest id is the likeliest. */
  next(logits: Float32Array): number {
    if (this.temperature === 0) return argmax(logits);
    const { ids, weights } = this.candidates(logits);
    let draw = this.random.uniform() * weights.reduce((sum, weight) => sum + weight, 0);
    let last = 0; // what rounding leaves over falls to it; a token that was ruled out has weight 0
    for (const [i, weight] of weights.entries()) {
      draw -= weight;
      if (draw < 0) return ids[i] as number;
      if (weight > 0) last = i;
    }
    return ids[last] as number;
  }

  /** What may be drawn at a temperature above 0, likeliest first where top-k or top-p chooses. */
  candidates(logits: Float32Array): Candidates {
    const largest = logits[argmax(logits)] as number;
    const ids = this.mostLikely(logits);
    const weights = ids.map((id) => Math.exp(((logits[id] as number) - largest) / this.temperature));
    if (this.topP === 1) return { ids, weights };
    const wanted = this.topP * weights.reduce((sum, weight) => sum + weight, 0);
    let count = 0;
    let mass = 0;
    while (count < weights.length && (count === 0 || mass < wanted)) mass += weights[count++] as number;
    return { ids: ids.slice(0, count), weights: weights.slice(0, count) };
  }

  private mostLikely(logits: Float32Array): number[] {
    const all = Array.from(logits.keys());
    if (this.topK === 0 && this.topP === 1) return all;
    const least = this.topK > 0 && this.topK < logits.length ? (logits.slice().sort().at(-this.topK) as number) : Number.NEGATIVE_INFINITY;
    return all.filter((id) => (logits[id] as number) >= least).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
  }
}

export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

/** @throws PromptError `BAD_SAMPLING` */
export function checkSampling(name: string, value: unknown, good: boolean, wanted: string): void {
  if (!good) throw new PromptError('BAD_SAMPLING', `Option "${name}" is ${String(value)}; give ${wanted}.`);
}
