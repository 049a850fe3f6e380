import * as tf from '@tensorflow/tfjs';
import type { Trainable } from './variables';

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled decay, on matrices only. */
  readonly weightDecay: number;
  /** Largest norm of the whole gradient. */
  readonly clip: number;
}

export const ADAMW: AdamWOptions = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weightDecay: 0.05, clip: 1 };

/**
 * AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) with clipping by the global norm. All variables live end to end in one vector,
 * so that a step is a dozen operations and not a dozen for each variable. Gradients of micro-batches add up until `step`.
 */
export class AdamW {
  readonly sizes: readonly number[];
  private readonly moments: tf.Variable;
  private readonly squares: tf.Variable;
  private readonly values: tf.Variable;
  private readonly decayed: tf.Tensor1D;
  private sum: tf.Tensor1D | undefined;
  private count = 0;
  steps = 0;

  constructor(
    private readonly trainables: readonly Trainable[],
    private readonly options: AdamWOptions = ADAMW,
  ) {
    this.sizes = trainables.map(({ variable }) => variable.size);
    const total = this.sizes.reduce((a, b) => a + b, 0);
    this.moments = tf.tidy(() => tf.variable(tf.zeros([total])));
    this.squares = tf.tidy(() => tf.variable(tf.zeros([total])));
    this.values = tf.tidy(() => tf.variable(tf.concat(trainables.map(({ variable }) => tf.reshape(variable, [-1])))));
    this.decayed = tf.tidy(() => tf.concat(trainables.map(({ variable, kind }) => tf.fill([variable.size], kind === 'matrix' ? 1 : 0))));
  }

  /**
   * Adds the gradient of `loss` (evaluated inside) to the sum; variables that it does not reach get zero.
   * @returns the loss; the caller disposes it.
   */
  accumulate(loss: () => tf.Scalar): tf.Scalar {
    const variables = this.trainables.map(({ variable }) => variable);
    const { value, grads } = tf.variableGrads(loss, variables);
    const sum = tf.tidy(() => {
      const flat = tf.concat(variables.map((variable) => tf.reshape(grads[variable.name] ?? tf.zeros(variable.shape), [-1]))) as tf.Tensor1D;
      return tf.keep(this.sum ? tf.add<tf.Tensor1D>(this.sum, flat) : flat);
    });
    tf.dispose(grads);
    this.sum?.dispose();
    this.sum = sum;
    this.count++;
    return value;
  }

  /** One step with the mean of the gradients since the last. @returns the norm of that mean; the caller disposes it. */
  step(learningRate: number): tf.Scalar {
    const { beta1, beta2, epsilon, weightDecay, clip } = this.options;
    this.steps++;
    const norm = tf.tidy(() => {
      const mean = tf.div(this.sum as tf.Tensor1D, this.count);
      const length = tf.sqrt(tf.sum(tf.square(mean)));
      const gradient = tf.mul(mean, tf.minimum(1, tf.div(clip, tf.add(length, 1e-6))));
      const moments = tf.add(tf.mul(this.moments, beta1), tf.mul(gradient, 1 - beta1));
      const squares = tf.add(tf.mul(this.squares, beta2), tf.mul(tf.square(gradient), 1 - beta2));
      const rate = learningRate / (1 - beta1 ** this.steps);
      const root = tf.add(tf.mul(tf.sqrt(squares), 1 / Math.sqrt(1 - beta2 ** this.steps)), epsilon);
      const shrunk = tf.sub(this.values, tf.mul(tf.mul(this.values, this.decayed), learningRate * weightDecay));
      this.moments.assign(moments);
      this.squares.assign(squares);
      this.values.assign(tf.sub(shrunk, tf.mul(tf.div(moments, root), rate)));
      this.scatter();
      return length as tf.Scalar;
    });
    this.sum?.dispose();
    this.sum = undefined;
    this.count = 0;
    return norm;
  }

  /** The optimiser's memory, in the order of the trainables; borrowed. */
  get state(): { readonly moments: tf.Tensor; readonly squares: tf.Tensor } {
    return { moments: this.moments, squares: this.squares };
  }

  /** Goes on from a saved state; the variables must hold that state's values already. */
  restore(moments: tf.Tensor, squares: tf.Tensor, steps: number): void {
    tf.tidy(() => {
      this.moments.assign(moments);
      this.squares.assign(squares);
      this.values.assign(tf.concat(this.trainables.map(({ variable }) => tf.reshape(variable, [-1]))));
    });
    this.steps = steps;
  }

  dispose(): void {
    tf.dispose([this.moments, this.squares, this.values, this.decayed]);
    this.sum?.dispose();
  }

  private scatter(): void {
    const parts = tf.split(this.values, [...this.sizes]);
    for (const [i, { variable }] of this.trainables.entries()) variable.assign(tf.reshape(parts[i] as tf.Tensor, variable.shape));
  }
}

/** Linear warm-up over the first `warmUp` of the run, then a half cosine to zero. `progress` runs from 0 to 1. */
export function cosineRate(peak: number, progress: number, warmUp: number): number {
  if (progress < warmUp) return (peak * progress) / warmUp;
  return peak * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, (progress - warmUp) / (1 - warmUp))));
}
