import * as tf from '@tensorflow/tfjs';
import { fused } from './fused';
import type { Parameter, Parameters } from './parameters';

/*
 * Both norms state their gradient themselves: it needs the normalised rows only, where the recorded operations would keep and copy every
 * intermediate (tfjs expands the gradient of a mean with a tensor of ones made in JavaScript). The values are the same.
 */

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
    const [weight, bias] = [this.weight.value, this.bias.value];
    return fused()?.layerNorm(x, weight, bias, this.epsilon) ?? (layerNorm(this.epsilon)(x, weight, bias) as tf.Tensor2D);
  }
}

/**
 * Root-mean-square norm of Llama (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467); no mean, no bias.
 *
 * Differs from the reference: nothing. The mean of squares is taken in float32, as transformers does.
 */
export class RmsNorm {
  readonly weight: Parameter;

  constructor(
    parameters: Parameters,
    size: number,
    readonly epsilon: number,
  ) {
    this.weight = parameters.tensor('weight', [size]);
  }

  /** x [rows, size] -> [rows, size] */
  apply(x: tf.Tensor2D): tf.Tensor2D {
    return fused()?.rmsNorm(x, this.weight.value, this.epsilon) ?? (rmsNorm(this.epsilon)(x, this.weight.value) as tf.Tensor2D);
  }
}

type CustomOp = (...args: tf.Tensor[]) => tf.Tensor;
type Save = (tensors: tf.Tensor[]) => void;

function layerNorm(epsilon: number): CustomOp {
  return tf.customGrad((...args) => {
    const [x, weight, bias, save] = args as [tf.Tensor, tf.Tensor, tf.Tensor, Save];
    const centred = tf.sub(x, tf.mean(x, -1, true)); // [rows, size]
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon)); // [rows, 1]
    const normed = tf.mul(centred, scale);
    save([normed, scale, weight]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [normedRows, rowScale, gain] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      const product = tf.mul(dy, normedRows);
      const inner = tf.mul(dy, gain); // the gradient of the normalised rows
      const along = tf.mul(normedRows, tf.mean(tf.mul(product, gain), -1, true)); // their length is fixed: no gradient along them
      const dx = tf.mul(tf.sub(tf.sub(inner, tf.mean(inner, -1, true)), along), rowScale);
      return [dx, tf.sum(product, 0), tf.sum(dy, 0)];
    };
    return { value: tf.add(tf.mul(normed, weight), bias), gradFunc };
  });
}

function rmsNorm(epsilon: number): CustomOp {
  return tf.customGrad((...args) => {
    const [x, weight, save] = args as [tf.Tensor, tf.Tensor, Save];
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon)); // [rows, 1]
    const normed = tf.mul(x, scale);
    save([normed, scale, weight]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [normedRows, rowScale, gain] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      const product = tf.mul(dy, normedRows);
      const along = tf.mul(normedRows, tf.mean(tf.mul(product, gain), -1, true));
      return [tf.mul(tf.sub(tf.mul(dy, gain), along), rowScale), tf.sum(product, 0)];
    };
    return { value: tf.mul(normed, weight), gradFunc };
  });
}
