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

/** Tokens that may be drawn, with their unnormalised probabilities. Valid until the next draw. */
export interface Candidates {
  readonly ids: readonly number[] | Int32Array;
  readonly weights: Float64Array;
}

/** Parts of a factor e into which likelihoods are counted when the most likely tokens are looked for, and the factors of e that are told apart. */
const [BUCKETS_PER_E, FACTORS_OF_E] = [16, 64];

/** Bounds the rounding of a sum of probabilities in another order. */
const ROUNDING = 1e-9;

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
  private weights: Float64Array = new Float64Array(0);
  private all: Int32Array = new Int32Array(0);

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

  /** logits [vocabulary], at least one finite, and where the largest is -> an id; of equal logits, the lowest id is the likeliest. */
  next(logits: Float32Array, likeliest: number = argmax(logits)): number {
    if (this.temperature === 0) return likeliest;
    const { ids, weights } = this.candidates(logits, likeliest);
    let draw = this.random.uniform() * sum(weights);
    let last = 0; // what rounding leaves over falls to it; a token that was ruled out has weight 0
    for (let i = 0; i < weights.length; i++) {
      const weight = weights[i] as number;
      draw -= weight;
      if (draw < 0) return ids[i] as number;
      if (weight > 0) last = i;
    }
    return ids[last] as number;
  }

  /** What may be drawn at a temperature above 0, likeliest first where top-k or top-p chooses. */
  candidates(logits: Float32Array, likeliest: number = argmax(logits)): Candidates {
    const largest = logits[likeliest] as number;
    if (this.topK > 0 && this.topK < logits.length)
      return this.nucleus(sorted(logits, atLeast(logits, kthLargest(logits, this.topK))), logits, largest);
    const weights = this.weightsOfAll(logits, largest);
    if (this.topP === 1 && this.topK === 0) return { ids: this.all, weights };
    return this.nucleus(sorted(logits, this.likelyEnough(logits, largest, weights)), logits, largest, sum(weights));
  }

  /** Of ids that fall in likelihood, the first that have top-p's share of `total`, the weight of all that it chooses among. */
  private nucleus(ids: number[], logits: Float32Array, largest: number, total?: number): Candidates {
    const weights = Float64Array.from(ids, (id) => Math.exp(((logits[id] as number) - largest) / this.temperature));
    if (this.topP === 1) return { ids, weights };
    const wanted = this.topP * (total ?? sum(weights));
    let count = 0;
    let mass = 0;
    while (count < weights.length && (count === 0 || mass < wanted)) mass += weights[count++] as number;
    return { ids: ids.slice(0, count), weights: weights.subarray(0, count) };
  }

  /** Tokens that top-p can reach, and some more: sorting all of a large vocabulary takes as long as a small model's step. */
  private likelyEnough(logits: Float32Array, largest: number, weights: Float64Array): number[] {
    const last = BUCKETS_PER_E * FACTORS_OF_E;
    const bucketOf = (logit: number) => Math.min(last, Math.floor(((largest - logit) / this.temperature) * BUCKETS_PER_E));
    const masses = new Float64Array(last + 1);
    for (let id = 0; id < logits.length; id++) {
      const bucket = bucketOf(logits[id] as number);
      masses[bucket] = (masses[bucket] as number) + (weights[id] as number);
    }
    const wanted = this.topP * sum(weights) * (1 + ROUNDING);
    let border = 0;
    for (let mass = masses[0] as number; border < last && mass < wanted; mass += masses[border] as number) border++;
    const ids: number[] = [];
    for (let id = 0; id < logits.length; id++) {
      if (bucketOf(logits[id] as number) <= border) ids.push(id);
    }
    return ids;
  }

  /** In a buffer that is used again. */
  private weightsOfAll(logits: Float32Array, largest: number): Float64Array {
    if (this.weights.length !== logits.length) {
      this.weights = new Float64Array(logits.length);
      this.all = Int32Array.from(logits.keys());
    }
    for (let id = 0; id < logits.length; id++) this.weights[id] = Math.exp(((logits[id] as number) - largest) / this.temperature);
    return this.weights;
  }
}

/** Of equal values the first. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

/** As `values.sort().at(-k)`, without sorting: the least of the k largest stands on top of a heap of them. k is at most the count of values. */
function kthLargest(values: Float32Array, k: number): number {
  const heap = values.slice(0, k).sort(); // rising, which is a heap
  for (let i = k; i < values.length; i++) {
    const value = values[i] as number;
    if (value <= (heap[0] as number)) continue;
    let place = 0;
    for (let child = 1; child < k; child = 2 * place + 1) {
      if (child + 1 < k && (heap[child + 1] as number) < (heap[child] as number)) child++;
      if ((heap[child] as number) >= value) break;
      heap[place] = heap[child] as number;
      place = child;
    }
    heap[place] = value;
  }
  return heap[0] as number;
}

function atLeast(logits: Float32Array, least: number): number[] {
  const ids: number[] = [];
  for (let id = 0; id < logits.length; id++) if ((logits[id] as number) >= least) ids.push(id);
  return ids;
}

/** Likeliest first, of equal ones the lower id. */
function sorted(logits: Float32Array, ids: number[]): number[] {
  return ids.sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
}

function sum(values: Float64Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i] as number;
  return total;
}

/** @throws PromptError `BAD_SAMPLING` */
export function checkSampling(name: string, value: unknown, good: boolean, wanted: string): void {
  if (!good) throw new PromptError('BAD_SAMPLING', `Option "${name}" is ${String(value)}; give ${wanted}.`);
}
