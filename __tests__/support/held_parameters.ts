import * as tf from '@tensorflow/tfjs';
import type { Embedding, Matrix, Parameter, Parameters } from '../../layers/parameters';
import type { Recorded } from './recorded';

/** Parameters for one layer under test, from tensors at hand: plain float32 products, no checks but the shapes'. */
export class HeldParameters implements Parameters {
  constructor(
    private readonly read: (name: string) => Recorded,
    readonly path: string = '',
    private readonly owned: tf.Tensor[] = [],
  ) {}

  at(name: string): Parameters {
    return new HeldParameters(this.read, this.full(name), this.owned);
  }

  tensor(name: string, shape: readonly number[]): Parameter {
    return { name: this.full(name), shape, value: this.hold(name, shape) };
  }

  matrix(name: string, inDim: number, outDim: number): Matrix {
    const weight = this.hold(name, [outDim, inDim]);
    return {
      name: this.full(name),
      inDim,
      outDim,
      apply: (rows) => tf.tidy(() => tf.matMul(rows, tf.transpose(weight as tf.Tensor2D))),
      dispose: () => weight.dispose(),
    };
  }

  embedding(name: string, rows: number, dim: number): Embedding {
    const weight = this.hold(name, [rows, dim]) as tf.Tensor2D;
    return {
      name: this.full(name),
      rows,
      dim,
      lookup: (ids) => tf.tidy(() => tf.gather(weight, tf.tensor1d(ids, 'int32'))),
      project: (x) => tf.tidy(() => tf.matMul(x, tf.transpose(weight))),
      dispose: () => weight.dispose(),
    };
  }

  dispose(): void {
    tf.dispose(this.owned);
  }

  private full(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }

  private hold(name: string, shape: readonly number[]): tf.Tensor {
    const { values } = this.read(this.full(name));
    const tensor = tf.tensor(values, [...shape]);
    this.owned.push(tensor);
    return tensor;
  }
}
