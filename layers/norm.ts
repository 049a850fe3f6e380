import * as tf from '@tensorflow/tfjs';
import type { Parameter, Parameters } from './parameters';

/** `torch.nn.LayerNorm` over the last dimension (Ba et al. 2016, https://arxiv.org/abs/1607.06450); biased variance, as torch takes it. */
export class LayerNorm {
  private readonly weight: Parameter;
  private readonly bias: Parameter;

  constructor(
    parameters: Parameters,
    size: number,
    private readonly epsilon: number,
  ) {
    this.weight = parameters.tensor('weight', [size]);
    this.bias = parameters.tensor('bias', [size]);
  }

  /** x [rows, size] -> [rows, size] */
  apply(x: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => {
      const centred = tf.sub(x, tf.mean(x, -1, true)); // [rows, size]
      const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), this.epsilon)); // [rows, 1]
      return tf.add<tf.Tensor2D>(tf.mul(tf.mul(centred, scale), this.weight.value), this.bias.value);
    });
  }
}

/**
 * Root-mean-square norm of Llama (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467); no mean, no bias.
 *
 * Differs from the reference: nothing. The mean of squares is taken in float32, as transformers does.
 */
export class RmsNorm {
  private readonly weight: Parameter;

  constructor(
    parameters: Parameters,
    size: number,
    private readonly epsilon: number,
  ) {
    this.weight = parameters.tensor('weight', [size]);
  }

  /** x [rows, size] -> [rows, size] */
  apply(x: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => {
      const scale = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), this.epsilon)); // [rows, 1]
      return tf.mul<tf.Tensor2D>(tf.mul(x, scale), this.weight.value);
    });
  }
}
