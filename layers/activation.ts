import * as tf from '@tensorflow/tfjs';
import { ConfigError } from './errors';
import { fused } from './fused';

/** An elementwise function: any shape in, the same shape out. */
export type Activation = <T extends tf.Tensor>(x: T) => T;

const SQRT_HALF = Math.SQRT1_2;
const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI);

/** By the names that configs use (`hidden_act`, `projector_hidden_act`), as in transformers' ACT2FN. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  relu: (x) => tf.relu(x),
  silu: gated(1),
  /** x sigmoid(1.702 x): CLIP's. */
  quick_gelu: (x) => fused()?.quickGelu(x) ?? quickGelu(x),
  /** x Phi(x), exactly. */
  gelu: (x) => tf.tidy(() => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, SQRT_HALF)), 1))),
  gelu_pytorch_tanh: (x) =>
    tf.tidy(() => {
      const inner = tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), SQRT_2_OVER_PI);
      return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
    }),
};

/** x sigmoid(slope x). Its gradient is stated so that training keeps two tensors for it and not four: s + slope y (1 - s) with s the sigmoid. */
function gated(slope: number): Activation {
  const apply = tf.customGrad((...args) => {
    const [x, save] = args as [tf.Tensor, (tensors: tf.Tensor[]) => void];
    const gate = tf.sigmoid(slope === 1 ? x : tf.mul(x, slope));
    const value = tf.mul(x, gate);
    save([value, gate]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [y, s] = saved as [tf.Tensor, tf.Tensor];
      const scaled = slope === 1 ? y : tf.mul(y, slope);
      return [tf.mul(dy, tf.add(s, tf.sub(scaled, tf.mul(scaled, s))))];
    };
    return { value, gradFunc };
  });
  return <T extends tf.Tensor>(x: T) => apply(x) as T;
}

const quickGelu = gated(1.702);

/** The product of an activated gate and another tensor, as in a gated MLP. @throws ConfigError `UNKNOWN_ACTIVATION` */
export function gatedProduct(name: string): <T extends tf.Tensor>(gate: T, up: T) => T {
  const activate = activation(name);
  return <T extends tf.Tensor>(gate: T, up: T) => (name === 'silu' && fused()?.swiglu(gate, up)) || tf.mul<T>(activate(gate), up);
}

/** Names that `activation` knows. */
export const ACTIVATION_NAMES: readonly string[] = Object.keys(ACTIVATIONS);

/** @throws ConfigError `UNKNOWN_ACTIVATION` */
export function activation(name: string): Activation {
  const known = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (!known) {
    throw new ConfigError('UNKNOWN_ACTIVATION', `Unknown activation "${name}". Known: ${ACTIVATION_NAMES.join(', ')}.`);
  }
  return known;
}
