import type * as tf from '@tensorflow/tfjs';

/** A tensor of the model. `value` is borrowed: its source owns and disposes it. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** @throws StateError (`NOT_FILLED`) before the source was filled, (`DISPOSED`) after it was disposed. */
  readonly value: tf.Tensor;
}

/** The weight of a linear layer, in the layout and precision that the backend is fast at. */
export interface Matrix {
  readonly name: string;
  readonly inDim: number;
  readonly outDim: number;
  /** rows [R, inDim] -> [R, outDim]; float32 in and out. */
  apply(rows: tf.Tensor2D): tf.Tensor2D;
  /** What the backend that made it knows of it, for `FusedOperations`. */
  readonly held?: unknown;
  dispose(): void;
}

/** A table of embeddings that may serve as the language model's head too (tied): one copy in memory. */
export interface Embedding {
  readonly name: string;
  readonly rows: number;
  readonly dim: number;
  /** ids [n] -> [n, dim] */
  lookup(ids: Int32Array): tf.Tensor2D;
  /** x [R, dim] -> x W^T [R, rows] */
  project(x: tf.Tensor2D): tf.Tensor2D;
  dispose(): void;
}

/**
 * Where a layer declares what it needs, under the names that Hugging Face checkpoints use; scopes nest as the keys do.
 * Bytes arrive later (`ParameterSource.fill` in `weights/sources`).
 */
export interface Parameters {
  /** The module path in the checkpoint, as `language_model.model.layers.0`; empty at the root. */
  readonly path: string;
  at(name: string): Parameters;
  tensor(name: string, shape: readonly number[]): Parameter;
  /** The checkpoint holds [outDim, inDim], as torch's Linear does; a convolution's [out, channels, height, width] counts as [out, channels * height * width]. */
  matrix(name: string, inDim: number, outDim: number): Matrix;
  /** `head`: `project` will be called as well as `lookup`; a source may then choose the layout that is fast at it. */
  embedding(name: string, rows: number, dim: number, options?: { readonly head?: boolean }): Embedding;
}
