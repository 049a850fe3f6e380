import * as tf from '@tensorflow/tfjs';
import { type AttendOptions, attend, type HeadShape } from './attention';
import { StateError } from './errors';

/** Keys and values of one sequence in one decoder block. Blocks of one sequence may differ in length when tokens were dropped between them. */
export interface KeyValueCache {
  /** Tokens held. */
  readonly length: number;
  /** Position id of each token held. */
  readonly positions: Int32Array;
  /** keys, values [n, keyValueHeads * headDim], already rotated; cloned or copied, the caller keeps its own. */
  append(keys: tf.Tensor2D, values: tf.Tensor2D, positions: Int32Array): void;
  /** queries [Q, heads * headDim] over all that is held -> [Q, heads * headDim] */
  attend(queries: tf.Tensor2D, options?: AttendOptions): tf.Tensor2D;
  /** Forgets all but the first `length` tokens. */
  truncate(length: number): void;
  /** A cache that goes on from here on its own. */
  fork(): KeyValueCache;
  dispose(): void;
}

/** Holds one tensor each for keys and values, and concatenates what comes. */
export class ConcatKeyValueCache implements KeyValueCache {
  private held: { keys: tf.Tensor2D; values: tf.Tensor2D } | undefined;
  private disposed = false;
  private tokenPositions = new Int32Array(0);

  constructor(private readonly shape: HeadShape) {}

  get length(): number {
    return this.tokenPositions.length;
  }

  get positions(): Int32Array {
    return this.tokenPositions;
  }

  append(keys: tf.Tensor2D, values: tf.Tensor2D, positions: Int32Array): void {
    this.alive();
    const before = this.held;
    this.held = before
      ? { keys: tf.keep(tf.concat([before.keys, keys], 0)), values: tf.keep(tf.concat([before.values, values], 0)) }
      : { keys: tf.keep(keys.clone()), values: tf.keep(values.clone()) };
    tf.dispose(before);
    const all = new Int32Array(this.length + positions.length);
    all.set(this.tokenPositions);
    all.set(positions, this.length);
    this.tokenPositions = all;
  }

  attend(queries: tf.Tensor2D, options?: AttendOptions): tf.Tensor2D {
    this.alive();
    if (!this.held) throw new StateError('EMPTY_CACHE', 'This key-value cache holds nothing to attend to; append keys and values first.');
    return attend(queries, this.held.keys, this.held.values, this.shape, options);
  }

  truncate(length: number): void {
    if (!this.held || length >= this.length) return;
    const { keys, values } = this.held;
    this.held =
      length > 0 ? { keys: tf.keep(tf.slice(keys, [0, 0], [length, -1])), values: tf.keep(tf.slice(values, [0, 0], [length, -1])) } : undefined;
    tf.dispose([keys, values]);
    this.tokenPositions = this.tokenPositions.slice(0, length);
  }

  fork(): KeyValueCache {
    this.alive();
    const copy = new ConcatKeyValueCache(this.shape);
    if (this.held) copy.append(this.held.keys, this.held.values, this.tokenPositions);
    return copy;
  }

  dispose(): void {
    tf.dispose(this.held);
    this.held = undefined;
    this.tokenPositions = new Int32Array(0);
    this.disposed = true;
  }

  private alive(): void {
    if (this.disposed) throw new StateError('DISPOSED', 'This key-value cache was disposed; start a new sequence.');
  }
}
