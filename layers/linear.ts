import * as tf from '@tensorflow/tfjs';
import type { Matrix, Parameter, Parameters } from './parameters';

/**
 * `torch.nn.Linear` over packed rows.
 *
 * Differs from the reference: the layout and the precision of the weight are the backend's business (`Matrix`).
 */
export class Linear {
  readonly weight: Matrix;
  readonly bias: Parameter | undefined;

  constructor(parameters: Parameters, inDim: number, outDim: number, options: { bias: boolean }) {
    this.weight = parameters.matrix('weight', inDim, outDim);
    this.bias = options.bias ? parameters.tensor('bias', [outDim]) : undefined;
  }

  /** rows [R, inDim] -> [R, outDim] */
  apply(rows: tf.Tensor2D): tf.Tensor2D {
    const { bias } = this;
    if (!bias) return this.weight.apply(rows);
    // Not tf.fused.matMul: its wasm kernel adds the bias once per 48-wide block when a transpose flag is set.
    return tf.tidy(() => tf.add<tf.Tensor2D>(this.weight.apply(rows), bias.value));
  }
}
