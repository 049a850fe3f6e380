import type * as tf from '@tensorflow/tfjs';

/**
 * Looks at an intermediate value under the module path that it has in the checkpoint, or a `#`-name for what has none
 * (`…self_attn#probabilities`). The value is borrowed for the call: `tf.keep(value.clone())` keeps it. Taps observe and change nothing.
 */
export type Tap = (name: string, value: tf.Tensor) => void;

/** The rows of one sequence (or crop) among packed rows [R, D]. */
export interface Segment {
  readonly start: number;
  readonly length: number;
}
