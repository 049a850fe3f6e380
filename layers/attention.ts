import * as tf from '@tensorflow/tfjs';
import { fused } from './fused';
import type { Segment } from './tap';

/** How the width of queries, keys and values divides into heads; `heads` is a multiple of `keyValueHeads` (grouped-query attention). */
export interface HeadShape {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
}

export interface AttendOptions {
  /** Added to the scores: [queries, keys], 0 or a large negative number. Every query sees every key without one. */
  readonly mask?: tf.Tensor2D | CausalMask;
  /** Sees [heads, queries, keys] of each sequence; borrowed. */
  readonly onProbabilities?: (probabilities: tf.Tensor3D) => void;
}

/** Large enough that its exponential is 0 in float32, finite so that no NaN arises from it. */
const HIDDEN = -1e9;

/**
 * Query i of the last `queries` of `keys` tokens sees itself and what came before.
 * @returns [queries, keys]; the caller disposes it.
 */
export function causalMask(queries: number, keys: number): tf.Tensor2D {
  const mask = new Float32Array(queries * keys);
  for (let i = 0; i < queries; i++) mask.fill(HIDDEN, i * keys + (keys - queries) + i + 1, (i + 1) * keys);
  return tf.tensor2d(mask, [queries, keys]);
}

/** Elements of the map of scores that is made at once: 64 MiB in float32. Longer sequences go through in parts, unless a tap asks for the map. */
export const LARGEST_MAP: { elements: number } = { elements: 2 ** 24 };

/** `causalMask` as a tensor that is made when it is first needed: not every backend needs one. */
export class CausalMask {
  private made: tf.Tensor2D | undefined;
  private readonly parts = new Map<string, CausalMask>();

  constructor(
    readonly queries: number,
    readonly keys: number,
  ) {}

  /** [queries, keys]; the mask's own. */
  get tensor(): tf.Tensor2D {
    this.made ??= tf.keep(causalMask(this.queries, this.keys));
    return this.made;
  }

  /** The mask of queries [start, end) over the keys that they see; it belongs to this one. */
  of(start: number, end: number): CausalMask {
    const key = `${start} ${end}`;
    const part = this.parts.get(key) ?? new CausalMask(end - start, this.keys - this.queries + end);
    this.parts.set(key, part);
    return part;
  }

  dispose(): void {
    this.made?.dispose();
    this.made = undefined;
    for (const part of this.parts.values()) part.dispose();
    this.parts.clear();
  }
}

/**
 * Scaled dot-product attention of one sequence.
 * Keys are never repeated for grouped queries: the queries that share a key-value head are stacked as rows.
 *
 * queries [Q, heads * headDim], keys and values [K, keyValueHeads * headDim] -> [Q, heads * headDim]
 */
export function attend(queries: tf.Tensor2D, keys: tf.Tensor2D, values: tf.Tensor2D, shape: HeadShape, options: AttendOptions = {}): tf.Tensor2D {
  return tf.tidy(() => {
    const whole = attendFused(queries, keys, values, 1, shape, options);
    if (whole) return whole;
    if (headwise()) return attendHeads(queries, cutHeads(keys, values, shape), shape, options);
    return attendBatched(queries, keys, values, 1, shape, options);
  });
}

/**
 * Attention inside each segment of packed rows, without a cache: an encoder's, or a decoder's in training.
 * Segments of equal length become one batched product where the backend likes it. A mask needs segments of its own length.
 */
export function attendSegments(
  queries: tf.Tensor2D,
  keys: tf.Tensor2D,
  values: tf.Tensor2D,
  segments: readonly Segment[],
  shape: HeadShape,
  options: AttendOptions = {},
): tf.Tensor2D {
  return tf.tidy(() => {
    const length = segments[0]?.length ?? 0;
    const packed =
      segments.every((segment, i) => segment.length === length && segment.start === i * length) && queries.shape[0] === length * segments.length;
    const whole = packed && attendFused(queries, keys, values, segments.length, shape, options);
    if (whole) return whole;
    if (packed && !headwise()) return attendBatched(queries, keys, values, segments.length, shape, options);
    const parts = segments.map(({ start, length: n }) =>
      attend(rowsOf(queries, start, n), rowsOf(keys, start, n), rowsOf(values, start, n), shape, options),
    );
    return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 0);
  });
}

/** All of it in one operation, where the backend has one and nothing asks for more. */
function attendFused(
  queries: tf.Tensor2D,
  keys: tf.Tensor2D,
  values: tf.Tensor2D,
  batch: number,
  shape: HeadShape,
  { mask, onProbabilities }: AttendOptions,
): tf.Tensor2D | undefined {
  if (onProbabilities || mask instanceof tf.Tensor) return undefined;
  return fused()?.attend(queries, keys, values, { ...shape, batch, causal: mask !== undefined });
}

/**
 * Softmaxed scores of a few queries over all keys: [heads, Q, K]. What pruners and analyses read, without the whole map.
 */
export function attentionProbabilities(queries: tf.Tensor2D, keys: tf.Tensor2D, shape: HeadShape, mask?: tf.Tensor2D): tf.Tensor3D {
  return tf.tidy(() => {
    const group = shape.heads / shape.keyValueHeads;
    const rows = mask && grouped(mask, group);
    const perHead: tf.Tensor3D[] = [];
    for (let head = 0; head < shape.keyValueHeads; head++) {
      const q = headRows(queries, head, group, shape.headDim); // [Q * group, headDim]
      const k = tf.transpose(columnsOf(keys, head * shape.headDim, shape.headDim)); // [headDim, K]
      const probabilities = tf.softmax(masked(scores(q, k, shape.headDim), rows)); // [Q * group, K]
      perHead.push(tf.transpose(tf.reshape(probabilities, [queries.shape[0], group, keys.shape[0]]), [1, 0, 2]));
    }
    return tf.concat(perHead, 0);
  });
}

/** What the product of one key-value head reads. */
export interface KeysAndValuesOfHead {
  /** [headDim, K] */
  readonly keys: tf.Tensor2D;
  /** [K, headDim] */
  readonly values: tf.Tensor2D;
}

/** Whether each head is a product of its own: on wasm only rank-2 products without transpose flags take the fast kernel. */
export function headwise(): boolean {
  return tf.getBackend() === 'wasm';
}

/** Keys and values [K, keyValueHeads * headDim] by their heads. On wasm each cut costs as much as a copy of the whole: cut once, and few rows. */
export function cutHeads(keys: tf.Tensor2D, values: tf.Tensor2D, { keyValueHeads, headDim }: HeadShape): KeysAndValuesOfHead[] {
  return Array.from({ length: keyValueHeads }, (_, head) => ({
    keys: tf.tidy(() => tf.transpose(columnsOf(keys, head * headDim, headDim))),
    values: keyValueHeads === 1 ? values.clone() : columnsOf(values, head * headDim, headDim),
  }));
}

/** `attend`, head by head. */
export function attendHeads(
  queries: tf.Tensor2D,
  byHead: readonly KeysAndValuesOfHead[],
  { heads, headDim }: HeadShape,
  options: AttendOptions = {},
): tf.Tensor2D {
  const group = heads / byHead.length;
  const queryLength = queries.shape[0];
  const maps: tf.Tensor3D[] = [];
  const output = tf.tidy(() => {
    const mask = options.mask && grouped(maskTensor(options.mask), group);
    const parts = byHead.map(({ keys, values }, head) =>
      tf.tidy(() => {
        const q = headRows(queries, head, group, headDim); // [Q * group, headDim]
        const probabilities = tf.softmax(masked(scores(q, keys, headDim), mask)); // [Q * group, K]
        if (options.onProbabilities) {
          maps.push(tf.keep(tf.transpose(tf.reshape(probabilities, [queryLength, group, keys.shape[1]]), [1, 0, 2])));
        }
        return tf.reshape(tf.matMul(probabilities, values), [queryLength, group * headDim]) as tf.Tensor2D;
      }),
    );
    return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 1);
  });
  if (options.onProbabilities) {
    const all = tf.concat(maps, 0);
    tf.dispose(maps);
    options.onProbabilities(all);
    all.dispose();
  }
  return output;
}

/** All heads of `batch` sequences of equal length as one product. */
function attendBatched(
  queries: tf.Tensor2D,
  keys: tf.Tensor2D,
  values: tf.Tensor2D,
  batch: number,
  shape: HeadShape,
  options: AttendOptions,
): tf.Tensor2D {
  const { heads, keyValueHeads, headDim } = shape;
  const group = heads / keyValueHeads;
  const queryLength = queries.shape[0] / batch;
  const keyLength = keys.shape[0] / batch;
  const byHead = (x: tf.Tensor2D, length: number, width: number) => tf.transpose(tf.reshape(x, [batch, length, keyValueHeads, width]), [0, 2, 1, 3]); // [batch, keyValueHeads, length, width]
  const scaledQueries = tf.mul<tf.Tensor2D>(queries, 1 / Math.sqrt(headDim));
  const q = tf.reshape(byHead(scaledQueries, queryLength, group * headDim), [batch * keyValueHeads, queryLength * group, headDim]) as tf.Tensor3D;
  const k = tf.reshape(byHead(keys, keyLength, headDim), [batch * keyValueHeads, keyLength, headDim]) as tf.Tensor3D;
  const v = tf.reshape(byHead(values, keyLength, headDim), [batch * keyValueHeads, keyLength, headDim]) as tf.Tensor3D;
  const mixed = inParts(batch * heads, queryLength, keyLength, options, (start, end, mask) => {
    const seen = mask?.shape[1] ?? keyLength;
    const some = (x: tf.Tensor3D, from: number, length: number) => (length === x.shape[1] ? x : tf.slice(x, [0, from, 0], [-1, length, -1]));
    const raw = tf.matMul(some(q, start * group, (end - start) * group), some(k, 0, seen), false, true); // [batch * keyValueHeads, Q * group, K]
    const probabilities = tf.softmax(mask ? tf.add<tf.Tensor3D>(raw, grouped(mask, group)) : raw);
    if (options.onProbabilities) handOutMaps(probabilities as tf.Tensor3D, batch, group, options.onProbabilities);
    return tf.matMul<tf.Tensor3D>(probabilities, some(v, 0, seen));
  });
  const byQuery = tf.reshape(mixed, [batch, keyValueHeads, queryLength, group * headDim]);
  return tf.reshape(tf.transpose(byQuery, [0, 2, 1, 3]), [batch * queryLength, heads * headDim]);
}

/** Queries in as many parts as their maps need. -> what `attendPart` gives for each, joined along its second dimension */
function inParts(
  heads: number,
  queries: number,
  keys: number,
  { mask, onProbabilities }: AttendOptions,
  attendPart: (start: number, end: number, mask: tf.Tensor2D | undefined) => tf.Tensor3D,
): tf.Tensor3D {
  const count = onProbabilities || mask instanceof tf.Tensor ? 1 : Math.min(queries, Math.ceil((heads * queries * keys) / LARGEST_MAP.elements));
  if (count <= 1) return attendPart(0, queries, mask && maskTensor(mask));
  const edge = (i: number) => Math.round((i * queries) / count);
  const parts = Array.from({ length: count }, (_, i) =>
    tf.tidy(() => attendPart(edge(i), edge(i + 1), (mask as CausalMask | undefined)?.of(edge(i), edge(i + 1)).tensor)),
  );
  return tf.concat(parts, 1);
}

/** probabilities [batch * keyValueHeads, Q * group, K], to a callback that takes [heads, Q, K] of each sequence. */
function handOutMaps(probabilities: tf.Tensor3D, batch: number, group: number, onProbabilities: (probabilities: tf.Tensor3D) => void): void {
  const [rows, stacked, keys] = probabilities.shape;
  const [keyValueHeads, queries] = [rows / batch, stacked / group];
  const maps = tf.reshape(probabilities, [batch, keyValueHeads, queries, group, keys]);
  for (let i = 0; i < batch; i++) {
    const one = tf.reshape(tf.slice(maps, [i, 0, 0, 0, 0], [1, -1, -1, -1, -1]), [keyValueHeads, queries, group, keys]);
    onProbabilities(tf.reshape<tf.Rank.R3>(tf.transpose(one, [0, 2, 1, 3]), [keyValueHeads * group, queries, keys]));
  }
}

/** q [rows, headDim], k [headDim, K] -> [rows, K] */
function scores(q: tf.Tensor2D, k: tf.Tensor2D, headDim: number): tf.Tensor2D {
  return tf.matMul(tf.mul<tf.Tensor2D>(q, 1 / Math.sqrt(headDim)), k);
}

function masked(raw: tf.Tensor2D, mask: tf.Tensor2D | undefined): tf.Tensor2D {
  return mask ? tf.add(raw, mask) : raw;
}

function maskTensor(mask: tf.Tensor2D | CausalMask): tf.Tensor2D {
  return mask instanceof CausalMask ? mask.tensor : mask;
}

/** [Q, K] -> [Q * group, K]: each row once per query head of the group. */
function grouped(mask: tf.Tensor2D, group: number): tf.Tensor2D {
  if (group === 1) return mask;
  const [queries, keys] = mask.shape;
  return tf.reshape(tf.tile(tf.expandDims(mask, 1), [1, group, 1]), [queries * group, keys]);
}

/** The query heads that share key-value head `head`: [Q, heads * headDim] -> [Q * group, headDim]. */
function headRows(queries: tf.Tensor2D, head: number, group: number, headDim: number): tf.Tensor2D {
  return tf.reshape(columnsOf(queries, head * group * headDim, group * headDim), [queries.shape[0] * group, headDim]);
}

function columnsOf(x: tf.Tensor2D, start: number, width: number): tf.Tensor2D {
  return width === x.shape[1] ? x : tf.slice(x, [0, start], [-1, width]);
}

function rowsOf(x: tf.Tensor2D, start: number, length: number): tf.Tensor2D {
  return length === x.shape[0] ? x : tf.slice(x, [start, 0], [length, -1]);
}
