import { PromptError } from '../layers/errors';
import { Random } from './random';

/** How the next token is drawn from the logits. */
export interface SamplingOptions {
  /** 0 (default) takes the most likely token; above 0 the logits are divided by it before the draw. */
  readonly temperature?: number;
  /** Draws among the fewest most likely tokens whose probabilities sum to this or more; in (0, 1], default 1. */
  readonly topP?: number;
  /** Draws among this many most likely tokens; 0 (default) means all. */
  readonly topK?: number;
  /** Whole, 0 to 2^32 - 1. The same seed gives the same answer on the same backend. Default 0. */
  readonly seed?: number;
}

/** Draws tokens for one sequence. */
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
    check('temperature', temperature, temperature >= 0 && Number.isFinite(temperature), 'a finite number of at least 0');
    check('topP', topP, topP > 0 && topP <= 1, 'a number above 0 and at most 1');
    check('topK', topK, Number.isInteger(topK) && topK >= 0, 'a whole number of at least 0');
    check('seed', seed, Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32, 'a whole number from 0 to 4294967295');
    this.temperature = temperature;
    this.topP = topP;
    this.topK = topK;
    this.random = new Random(seed, sequence);
  }

  /** logits [vocabulary] -> an id; of equal logits, the lowest id is the likeliest. */
  next(logits: Float32Array): number {
    if (this.temperature === 0) return argmax(logits);
    const order = Array.from(logits.keys()).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
    const candidates = this.topK > 0 ? order.slice(0, this.topK) : order;
    const largest = logits[candidates[0] as number] as number;
    const weights = candidates.map((id) => Math.exp(((logits[id] as number) - largest) / this.temperature));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let count = 0;
    let mass = 0;
    while (count < weights.length && (count === 0 || mass < this.topP * total)) mass += weights[count++] as number;
    let draw = this.random.uniform() * mass;
    for (let i = 0; i < count; i++) {
      draw -= weights[i] as number;
      if (draw < 0) return candidates[i] as number;
    }
    return candidates[count - 1] as number;
  }
}

export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

function check(name: string, value: number, good: boolean, wanted: string): void {
  if (!good) throw new PromptError('BAD_SAMPLING', `Option "${name}" is ${value}; give ${wanted}.`);
}
