import * as tf from '@tensorflow/tfjs';
import type { Matrix } from './parameters';

/** Keys and values of a sequence in a form that a backend knows; changed in place. */
export interface CacheTensors {
  readonly keys: tf.Tensor;
  readonly values: tf.Tensor;
  /** Tokens that there is room for. */
  readonly capacity: number;
}

/** Of `HeadShape`: how the width of queries, keys and values divides. */
interface Heads {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
}

/** Cosines and sines of rows, [R, 1, headDim / 2] each. */
interface Turns {
  readonly cos: tf.Tensor3D;
  readonly sin: tf.Tensor3D;
}

/** The parameters of a decoder block with a SwiGLU and without biases. */
export interface DecoderBlockParts {
  readonly inputNorm: tf.Tensor;
  readonly postNorm: tf.Tensor;
  readonly epsilon: number;
  /** q, k, v, o, gate, up, down */
  readonly matrices: readonly Matrix[];
}

/** A cache that has room for what comes, and how many tokens it holds. */
export interface HeldTokens {
  readonly tensors: CacheTensors;
  readonly at: number;
}

/** x [R, D], as many rows for each cache, which gets them behind what it holds -> [R, D] */
export type DecoderBlockOperation = (x: tf.Tensor2D, table: Turns, caches: readonly HeldTokens[]) => tf.Tensor2D;

/** What a backend may do in one operation where the layers take several. The values are the same but for rounding; none has a gradient. */
export interface FusedOperations {
  /** x [R, size], weight [size] -> [R, size] */
  rmsNorm(x: tf.Tensor2D, weight: tf.Tensor, epsilon: number): tf.Tensor2D;
  /** x [R, size], weight and bias [size] -> [R, size] */
  layerNorm(x: tf.Tensor2D, weight: tf.Tensor, bias: tf.Tensor, epsilon: number): tf.Tensor2D;
  /** x sigmoid(1.702 x), elementwise */
  quickGelu<T extends tf.Tensor>(x: T): T;
  /** x [R, heads * headDim] -> the same shape */
  rotate(x: tf.Tensor2D, table: Turns): tf.Tensor2D;
  /** silu(gate) * up, of one shape */
  swiglu<T extends tf.Tensor>(gate: T, up: T): T;
  /** `attendSegments` of `batch` segments of equal length, which lie behind each other */
  attend(
    queries: tf.Tensor2D,
    keys: tf.Tensor2D,
    values: tf.Tensor2D,
    how: Heads & { readonly batch: number; readonly causal: boolean },
  ): tf.Tensor2D;
  /** An empty cache for at least `tokens` tokens. */
  newCache(heads: Heads, tokens: number): CacheTensors;
  /** keys, values [n, keyValueHeads * headDim] become the tokens of a cache from `at` on. */
  writeCache(cache: CacheTensors, keys: tf.Tensor2D, values: tf.Tensor2D, at: number): void;
  /** The first `length` tokens of a cache: keys and values [length, keyValueHeads * headDim] each. */
  readCache(cache: CacheTensors, heads: Heads, length: number): { readonly keys: tf.Tensor2D; readonly values: tf.Tensor2D };
  /** queries [Q, heads * headDim], the last Q of the `length` tokens of a cache, each over those up to itself -> [Q, heads * headDim] */
  attendCache(queries: tf.Tensor2D, cache: CacheTensors, length: number): tf.Tensor2D;
  /** A whole block as one operation, for as long as its parameters live; undefined where they are of a kind that has none. */
  decoderBlock(parts: DecoderBlockParts): DecoderBlockOperation | undefined;
}

const byBackend = new Map<string, FusedOperations>();

/** Says that a backend, by the name that tfjs knows it by, has these operations. */
export function registerFused(backend: string, operations: FusedOperations): void {
  byBackend.set(backend, operations);
}

/** Those of the backend in use, if it has some; undefined while gradients are recorded. */
export function fused(): FusedOperations | undefined {
  return tf.engine().state.gradientDepth > 0 ? undefined : byBackend.get(tf.getBackend());
}
