import * as tf from '@tensorflow/tfjs';
import { ConfigError, StateError } from '../../layers/errors';
import type { Embedding, Matrix, Parameter, Parameters } from '../../layers/parameters';
import { Random } from '../random';

/** How a tensor starts: standard deviation of a normal, or one value everywhere. */
export type Initial = { readonly deviation: number } | { readonly value: number } | { readonly values: (shape: readonly number[]) => Float32Array };

/** The first rule whose pattern matches a name says how that tensor starts; a name without a rule is an error. */
export type InitialRules = readonly (readonly [RegExp, Initial])[];

export interface Trainable {
  readonly name: string;
  /** As the checkpoint has it: matrices are [out, in]. */
  readonly shape: readonly number[];
  /** Matrices are held as [in, out], which products without transposition want. */
  readonly variable: tf.Variable;
  readonly kind: 'tensor' | 'matrix' | 'embedding';
}

/** Values by their names in the checkpoint, in its layout. */
export type NamedArrays = Map<string, NamedArray>;

export interface NamedArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * The third source of parameters beside a checkpoint and a seed: variables that an optimiser changes.
 * The layers are the same; only what stands behind `Parameters` differs.
 */
export class VariableSource {
  private readonly known = new Map<string, Trainable>();
  private readonly random: Random;

  constructor(
    private readonly rules: InitialRules,
    seed: number,
  ) {
    this.random = new Random(seed, 77);
  }

  get trainables(): readonly Trainable[] {
    return [...this.known.values()];
  }

  get parameters(): Parameters {
    return this.scope('');
  }

  /** Every value, matrices as [out, in]. */
  async export(): Promise<NamedArrays> {
    const arrays: NamedArrays = new Map();
    for (const { name, shape, variable, kind } of this.known.values()) {
      const stored = kind === 'matrix' ? tf.transpose(variable) : variable;
      arrays.set(name, { shape, data: (await stored.data()) as Float32Array });
      if (stored !== variable) stored.dispose();
    }
    return arrays;
  }

  /** Takes over the values whose names both sides know. @returns how many those were. */
  import(arrays: NamedArrays): number {
    let taken = 0;
    for (const { name, shape, variable, kind } of this.known.values()) {
      const found = arrays.get(name);
      if (!found) continue;
      if (found.shape.join() !== shape.join()) {
        throw new ConfigError(
          'TRAIN_SHAPE',
          `The saved tensor ${name} has shape [${found.shape.join(', ')}], the model wants [${shape.join(', ')}]. It is from another configuration: start without --resume.`,
        );
      }
      tf.tidy(() => {
        const value = tf.tensor(found.data, kind === 'matrix' ? [...shape].reverse() : [...shape]);
        variable.assign(kind === 'matrix' ? value.reshape([shape[0] as number, shape[1] as number]).transpose() : value);
      });
      taken++;
    }
    return taken;
  }

  dispose(): void {
    for (const { variable } of this.known.values()) variable.dispose();
    this.known.clear();
  }

  private scope(path: string): Parameters {
    const full = (name: string) => (path === '' ? name : `${path}.${name}`);
    return {
      path,
      at: (name) => this.scope(full(name)),
      tensor: (name, shape): Parameter => {
        const { variable } = this.declare(full(name), shape, 'tensor');
        return { name: full(name), shape, value: variable };
      },
      matrix: (name, inDim, outDim): Matrix => {
        const { variable } = this.declare(full(name), [outDim, inDim], 'matrix');
        return {
          name: full(name),
          inDim,
          outDim,
          apply: (rows) => tf.matMul(rows, variable as tf.Tensor2D),
          dispose: () => variable.dispose(),
        };
      },
      embedding: (name, rows, dim): Embedding => {
        const { variable } = this.declare(full(name), [rows, dim], 'embedding');
        return {
          name: full(name),
          rows,
          dim,
          lookup: (ids) => lookup(variable as tf.Tensor2D, ids),
          project: (x) => tf.matMul(x, variable as tf.Tensor2D, false, true),
          dispose: () => variable.dispose(),
        };
      },
    };
  }

  private declare(name: string, shape: readonly number[], kind: Trainable['kind']): Trainable {
    if (this.known.has(name)) throw new StateError('DECLARED_TWICE', `The parameter ${name} is declared twice.`);
    const stored = kind === 'matrix' ? [...shape].reverse() : [...shape];
    const variable = tf.tidy(() => tf.variable(tf.tensor(this.initial(name, stored), stored)));
    const trainable: Trainable = { name, shape, variable, kind };
    this.known.set(name, trainable);
    return trainable;
  }

  private initial(name: string, shape: readonly number[]): Float32Array {
    const rule = this.rules.find(([pattern]) => pattern.test(name))?.[1];
    if (!rule) throw new ConfigError('NO_INITIAL', `No rule says how the parameter ${name} starts; add one to the table of initial values.`);
    if ('values' in rule) return rule.values(shape);
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if ('value' in rule) return data.fill(rule.value);
    return data.map(() => this.random.normal() * rule.deviation);
  }
}

/**
 * Rows of a table by their ids. The gradient is a product with the one-hot matrix: every backend has it, unlike UnsortedSegmentSum, and
 * with the small vocabularies that are trained here it costs nothing.
 */
export function lookup(table: tf.Tensor2D, ids: Int32Array): tf.Tensor2D {
  const gather = tf.customGrad((source) => ({
    value: tf.tidy(() => tf.gather(source as tf.Tensor2D, tf.tensor1d(ids, 'int32'))),
    gradFunc: (dy: tf.Tensor) =>
      tf.tidy(() => tf.matMul(tf.oneHot(tf.tensor1d(ids, 'int32'), table.shape[0]) as tf.Tensor2D, dy as tf.Tensor2D, true, false)),
  }));
  return gather(table) as tf.Tensor2D;
}
