import * as tf from '@tensorflow/tfjs';
import { fused } from './fused';

/** As `rope_parameters` in config.json (transformers 5); older files' `rope_theta` and `rope_scaling` are brought to this form by `lib/config`. */
export type RopeParameters =
  | { readonly rope_type: 'default'; readonly rope_theta: number }
  | { readonly rope_type: 'linear'; readonly rope_theta: number; readonly factor: number }
  | {
      readonly rope_type: 'llama3';
      readonly rope_theta: number;
      readonly factor: number;
      readonly low_freq_factor: number;
      readonly high_freq_factor: number;
      readonly original_max_position_embeddings: number;
    };

/** Cosines and sines of the rows' positions, each [R, 1, headDim / 2]. */
export interface RotaryTable {
  readonly cos: tf.Tensor3D;
  readonly sin: tf.Tensor3D;
}

/**
 * Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864) in Llama's form: the first half of a head's
 * dimensions pairs with the second. Frequencies are scaled as transformers' `ROPE_INIT_FUNCTIONS` do for `linear` and `llama3`.
 */
export class Rotary {
  /** Angle per position of each pair of dimensions, [headDim / 2]. */
  readonly frequencies: Float32Array;

  constructor(
    readonly headDim: number,
    parameters: RopeParameters,
  ) {
    this.frequencies = scaledFrequencies(headDim, parameters);
  }

  /** Made once for a pass over all blocks; the caller disposes both tensors. */
  table(positions: Int32Array): RotaryTable {
    const half = this.frequencies.length;
    const cos = new Float32Array(positions.length * half);
    const sin = new Float32Array(positions.length * half);
    for (let row = 0; row < positions.length; row++) {
      for (let i = 0; i < half; i++) {
        // transformers multiplies position and frequency in float32: at long positions the rounding is visible.
        const angle = Math.fround((positions[row] as number) * (this.frequencies[i] as number));
        cos[row * half + i] = Math.cos(angle);
        sin[row * half + i] = Math.sin(angle);
      }
    }
    const shape: [number, number, number] = [positions.length, 1, half];
    return { cos: tf.tensor3d(cos, shape), sin: tf.tensor3d(sin, shape) };
  }

  /** x [R, heads * headDim] -> the same shape, each row turned by its position. The gradient is the turn back. */
  apply(x: tf.Tensor2D, table: RotaryTable): tf.Tensor2D {
    const operations = fused();
    if (operations) return operations.rotate(x, table);
    const turn = tf.customGrad((rows) => ({
      value: turned(rows as tf.Tensor2D, this.headDim, table.cos, table.sin),
      gradFunc: (dy: tf.Tensor) => turned(dy as tf.Tensor2D, this.headDim, table.cos, tf.neg(table.sin)),
    }));
    return turn(x) as tf.Tensor2D;
  }
}

function turned(x: tf.Tensor2D, headDim: number, cos: tf.Tensor3D, sin: tf.Tensor3D): tf.Tensor2D {
  return tf.tidy(() => {
    const [rows, width] = x.shape;
    const half = headDim / 2;
    const heads = tf.reshape(x, [rows, width / headDim, headDim]); // [R, heads, headDim]
    const first = tf.slice(heads, [0, 0, 0], [-1, -1, half]); // [R, heads, headDim / 2]
    const second = tf.slice(heads, [0, 0, half], [-1, -1, half]);
    const parts = [tf.sub(tf.mul(first, cos), tf.mul(second, sin)), tf.add(tf.mul(second, cos), tf.mul(first, sin))];
    return tf.reshape(tf.concat(parts, 2), [rows, width]);
  });
}

/** Every step is rounded to float32 where torch rounds it: at long positions one unit in the last place of a frequency is visible. */
function scaledFrequencies(headDim: number, parameters: RopeParameters): Float32Array {
  const { fround } = Math;
  return Float32Array.from({ length: headDim / 2 }, (_, i) =>
    scaled(fround(1 / fround(parameters.rope_theta ** fround((2 * i) / headDim))), parameters),
  );
}

function scaled(frequency: number, parameters: RopeParameters): number {
  const { fround } = Math;
  switch (parameters.rope_type) {
    case 'default':
      return frequency;
    case 'linear':
      return frequency / parameters.factor;
    case 'llama3': {
      const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: context } = parameters;
      const wavelength = fround(fround(2 * Math.PI) / frequency);
      const turns = fround(context / wavelength); // full turns inside the original context
      if (wavelength > context / low) return frequency / factor;
      if (wavelength < context / high) return frequency;
      const smooth = fround(fround(turns - low) / (high - low));
      return fround(fround(fround(1 - smooth) * frequency) / factor) + fround(smooth * frequency);
    }
  }
}
