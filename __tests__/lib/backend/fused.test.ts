import * as tf from '@tensorflow/tfjs';
import { CausalMask, causalMask } from '../../../layers/attention';
import { type FusedOperations, fused } from '../../../layers/fused';
import { ConcatKeyValueCache, InPlaceKeyValueCache, type KeyValueCache, newKeyValueCache } from '../../../layers/kv_cache';
import { deleteHandle, executeAll, handleOf, wholeNumbers } from '../../../lib/backend/native/operations_node';
import { describeNative, useNative, withoutNativeLeaks } from '../../support/native';

/** Even spread over [-size, size), the same in every run. */
function spread(count: number, seed: number, size = 1): Float32Array {
  let state = seed * 2654435761 + 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state / 2 ** 31) * size;
  });
}

const matrix = (rows: number, columns: number, seed: number, size?: number) => tf.tensor2d(spread(rows * columns, seed, size), [rows, columns]);

function operations(): FusedOperations {
  return fused() as FusedOperations;
}

/** Expected values in float64; a difference of 2^-20 of the largest is 8 roundings in float32. An exponential multiplies those of its score. */
async function expectNear(actual: tf.Tensor, expected: Float64Array, tolerance: number = 2 ** -20): Promise<void> {
  const values = await actual.data();
  expect(values.length).toBe(expected.length);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (const [i, value] of values.entries()) {
    const difference = Math.abs(value - (expected[i] as number));
    if (!(difference <= largest * tolerance)) throw new Error(`value ${i}: ${value} instead of ${expected[i]}`);
  }
}

interface Sizes {
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
}

/** The definition, one query and head at a time. */
function attention(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  { queries, keys, heads, keyValueHeads, headDim }: Sizes,
  causal: boolean,
): Float64Array {
  const output = new Float64Array(queries * heads * headDim);
  for (let i = 0; i < queries; i++) {
    const seen = causal ? keys - queries + i + 1 : keys;
    for (let head = 0; head < heads; head++) {
      const shared = Math.floor(head / (heads / keyValueHeads));
      const at = (j: number, d: number) => (j * keyValueHeads + shared) * headDim + d;
      const own = (i * heads + head) * headDim;
      const weights = Array.from({ length: seen }, (_, j) => {
        let score = 0;
        for (let d = 0; d < headDim; d++) score += (q[own + d] as number) * (k[at(j, d)] as number);
        return score / Math.sqrt(headDim);
      });
      const largest = Math.max(...weights);
      const exponentials = weights.map((score) => Math.exp(score - largest));
      const sum = exponentials.reduce((total, value) => total + value, 0);
      for (let d = 0; d < headDim; d++) {
        output[own + d] = exponentials.reduce((total, value, j) => total + (value / sum) * (v[at(j, d)] as number), 0);
      }
    }
  }
  return output;
}

const SIZES: readonly Sizes[] = [
  { queries: 1, keys: 1, heads: 1, keyValueHeads: 1, headDim: 2 },
  { queries: 1, keys: 37, heads: 6, keyValueHeads: 2, headDim: 20 },
  { queries: 5, keys: 5, heads: 4, keyValueHeads: 4, headDim: 8 },
  { queries: 17, keys: 50, heads: 3, keyValueHeads: 1, headDim: 64 },
  { queries: 61, keys: 77, heads: 2, keyValueHeads: 1, headDim: 33 },
  { queries: 200, keys: 200, heads: 2, keyValueHeads: 2, headDim: 16 },
];

describeNative("the decoder's operations in the native binding", () => {
  beforeAll(useNative);

  it.each([
    [0, 8],
    [1, 1],
    [3, 7],
    [2, 16],
    [5, 4099],
  ])('RmsNorm of [%i, %i] is what its formula gives', async (rows, size) => {
    await withoutNativeLeaks(async () => {
      const [x, weight] = [spread(rows * size, 1, 3), spread(size, 2)];
      const expected = new Float64Array(rows * size);
      for (let row = 0; row < rows; row++) {
        let squares = 0;
        for (let i = 0; i < size; i++) squares += (x[row * size + i] as number) ** 2;
        for (let i = 0; i < size; i++)
          expected[row * size + i] = ((x[row * size + i] as number) / Math.sqrt(squares / size + 1e-5)) * (weight[i] as number);
      }
      const [rowsOfX, w] = [tf.tensor2d(x, [rows, size]), tf.tensor1d(weight)];
      const actual = operations().rmsNorm(rowsOfX, w, 1e-5);
      expect(actual.shape).toEqual([rows, size]);
      await expectNear(actual, expected);
      tf.dispose([rowsOfX, w, actual]);
    });
  });

  it.each([
    [0, 8],
    [1, 1],
    [3, 7],
    [5, 4099],
  ])('LayerNorm of [%i, %i] is what its formula gives, far from zero too', async (rows, size) => {
    await withoutNativeLeaks(async () => {
      const [x, weight, bias] = [spread(rows * size, 80, 3).map((value) => value + 5), spread(size, 81), spread(size, 82)];
      const expected = new Float64Array(rows * size);
      for (let row = 0; row < rows; row++) {
        const own = Array.from(x.subarray(row * size, (row + 1) * size));
        const mean = own.reduce((sum, value) => sum + value, 0) / size;
        const variance = own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / size;
        for (const [i, value] of own.entries()) {
          expected[row * size + i] = ((value - mean) / Math.sqrt(variance + 1e-5)) * (weight[i] as number) + (bias[i] as number);
        }
      }
      const [rowsOfX, w, b] = [tf.tensor2d(x, [rows, size]), tf.tensor1d(weight), tf.tensor1d(bias)];
      const actual = operations().layerNorm(rowsOfX, w, b, 1e-5);
      expect(actual.shape).toEqual([rows, size]);
      await expectNear(actual, expected, 2 ** -18); // the mean, 5, is rounded before it is taken away
      tf.dispose([rowsOfX, w, b, actual]);
    });
  });

  it.each([
    [0, 2, 4],
    [1, 1, 1],
    [7, 3, 5],
    [4, 2, 32],
  ])('rotation of %i rows with %i heads of twice %i', async (rows, heads, half) => {
    await withoutNativeLeaks(async () => {
      const width = heads * 2 * half;
      const [x, angles] = [spread(rows * width, 3), spread(rows * half, 4, 9)];
      const expected = new Float64Array(rows * width);
      for (let i = 0; i < rows * width; i += 2 * half) {
        for (let d = 0; d < half; d++) {
          const angle = angles[Math.floor(i / width) * half + d] as number;
          const [first, second] = [x[i + d] as number, x[i + half + d] as number];
          expected[i + d] = first * Math.cos(angle) - second * Math.sin(angle);
          expected[i + half + d] = second * Math.cos(angle) + first * Math.sin(angle);
        }
      }
      const input = tf.tensor2d(x, [rows, width]);
      const table = { cos: tf.tensor3d(angles.map(Math.cos), [rows, 1, half]), sin: tf.tensor3d(angles.map(Math.sin), [rows, 1, half]) };
      const actual = operations().rotate(input, table);
      await expectNear(actual, expected);
      tf.dispose([input, table.cos, table.sin, actual]);
    });
  });

  it.each([0, 1, 9, 40000])('SwiGLU of %i values, and of the largest and the smallest', async (count) => {
    await withoutNativeLeaks(async () => {
      const [gate, up] = [spread(count, 5, 30), spread(count, 6)];
      const [g, u] = [tf.tensor1d(gate), tf.tensor1d(up)];
      const actual = operations().swiglu(g, u);
      await expectNear(
        actual,
        Float64Array.from(gate, (x, i) => (x / (1 + Math.exp(-x))) * (up[i] as number)),
      );
      const [extremes, ones] = [tf.tensor1d([100, -100, 0, Number.POSITIVE_INFINITY, Number.NaN, 3e38]), tf.ones([6])] as const;
      const edges = operations().swiglu(extremes, ones as tf.Tensor1D);
      expect([...(await edges.data())]).toEqual([100, -0, 0, Number.POSITIVE_INFINITY, Number.NaN, Math.fround(3e38)]);
      tf.dispose([g, u, actual, extremes, ones, edges]);
    });
  });

  it('quick GELU of 40,003 values, and of the largest and the smallest', async () => {
    await withoutNativeLeaks(async () => {
      const values = spread(40_003, 83, 20);
      const [x, extremes] = [tf.tensor1d(values), tf.tensor1d([100, -100, 0, Number.POSITIVE_INFINITY, Number.NaN, 3e38])];
      const [actual, edges] = [operations().quickGelu(x), operations().quickGelu(extremes)];
      await expectNear(
        actual,
        Float64Array.from(values, (value) => value / (1 + Math.exp(-1.702 * value))),
      );
      expect([...(await edges.data())]).toEqual([100, -0, 0, Number.POSITIVE_INFINITY, Number.NaN, Math.fround(3e38)]);
      tf.dispose([x, extremes, actual, edges]);
    });
  });

  it.each(SIZES)('attention of %o, causal and not, alone and as a batch of two', async (sizes) => {
    await withoutNativeLeaks(async () => {
      const { queries, keys, heads, keyValueHeads, headDim } = sizes;
      const make = (rows: number, width: number, seed: number) => spread(2 * rows * width, seed, 2);
      const [q, k, v] = [make(queries, heads * headDim, 7), make(keys, keyValueHeads * headDim, 8), make(keys, keyValueHeads * headDim, 9)];
      for (const causal of [false, true]) {
        for (const batch of [1, 2]) {
          const half = (x: Float32Array, i: number) => x.subarray((i * x.length) / 2, ((i + 1) * x.length) / 2);
          const parts = Array.from({ length: batch }, (_, i) => attention(half(q, i), half(k, i), half(v, i), sizes, causal));
          const tensor = (x: Float32Array, rows: number) => tf.tensor2d(x.subarray(0, (x.length / 2) * batch), [rows * batch, x.length / 2 / rows]);
          const inputs = [tensor(q, queries), tensor(k, keys), tensor(v, keys)] as const;
          const actual = operations().attend(...inputs, { heads, keyValueHeads, headDim, batch, causal });
          await expectNear(actual, Float64Array.from(parts.flatMap((part) => [...part])), 2 ** -17);
          tf.dispose([...inputs, actual]);
        }
      }
    });
  });

  it.each(SIZES)('a cache written in parts, %o: the last rows see what the definition says', async (sizes) => {
    await withoutNativeLeaks(async () => {
      const { queries, keys, heads, keyValueHeads, headDim } = sizes;
      const width = keyValueHeads * headDim;
      const [q, k, v] = [spread(queries * heads * headDim, 10, 2), spread(keys * width, 11, 2), spread(keys * width, 12, 2)];
      const cache = new InPlaceKeyValueCache({ heads, keyValueHeads, headDim }, operations());
      for (let start = 0; start < keys; ) {
        const length = Math.min(1 + ((start * 7) % 23), keys - start);
        const rows = (x: Float32Array) => tf.tensor2d(x.subarray(start * width, (start + length) * width), [length, width]);
        const [newKeys, newValues] = [rows(k), rows(v)];
        cache.append(newKeys, newValues, new Int32Array(length));
        tf.dispose([newKeys, newValues]);
        start += length;
      }
      const asked = tf.tensor2d(q, [queries, heads * headDim]);
      const mask = queries === 1 ? undefined : new CausalMask(queries, keys);
      const actual = cache.attend(asked, { mask });
      await expectNear(actual, attention(q, k, v, sizes, true), 2 ** -17);
      // a mask that is a tensor, and maps for a tap, go another way through the same tokens
      const tensor = causalMask(queries, keys);
      const maps: number[][] = [];
      const other = cache.attend(asked, { mask: tensor, onProbabilities: ({ shape }) => maps.push(shape) });
      await expectNear(other, attention(q, k, v, sizes, true), 2 ** -17);
      expect(maps).toEqual([[heads, queries, keys]]);
      tf.dispose([asked, actual, tensor, other]);
      mask?.dispose();
      cache.dispose();
    });
  });

  it('a cache grows, goes back and forks as one that concatenates does; a fork that goes on leaves the other alone', async () => {
    const shape = { heads: 4, keyValueHeads: 2, headDim: 10 };
    await withoutNativeLeaks(async () => {
      expect(newKeyValueCache(shape).constructor).toBe(InPlaceKeyValueCache);
      const pairs: (readonly [KeyValueCache, KeyValueCache])[] = [[newKeyValueCache(shape), new ConcatKeyValueCache(shape)]];
      const query = matrix(1, 40, 13);
      let seed = 20;
      const add = (i: number, count: number) => {
        const [keys, values] = [matrix(count, 20, seed++), matrix(count, 20, seed++)];
        for (const cache of pairs[i] as (typeof pairs)[number]) cache.append(keys, values, new Int32Array(count));
        tf.dispose([keys, values]);
      };
      const compare = async () => {
        for (const [ours, theirs] of pairs) {
          const [actual, expected] = [ours.attend(query), theirs.attend(query)];
          await expectNear(actual, Float64Array.from(await expected.data()), 2 ** -17);
          tf.dispose([actual, expected]);
        }
      };
      add(0, 3);
      add(0, 70); // more than there is room for
      await compare();
      const [first, second] = pairs[0] as (typeof pairs)[number];
      pairs.push([first.fork(), second.fork()]);
      add(1, 2);
      await compare();
      add(0, 1);
      await compare();
      first.truncate(40);
      second.truncate(40);
      add(0, 5);
      await compare();
      pairs.push([first.fork(), second.fork()]);
      first.truncate(2);
      second.truncate(2);
      add(0, 9);
      await compare();
      for (const caches of pairs) for (const cache of caches) cache.dispose();
      query.dispose();
    });
  });

  it('a token more is written in place: nothing as large as the cache is made', async () => {
    const shape = { heads: 2, keyValueHeads: 2, headDim: 8 };
    await withoutNativeLeaks(async () => {
      const cache = newKeyValueCache(shape);
      const [many, one] = [matrix(100, 16, 50), matrix(1, 16, 51)];
      cache.append(many, many, new Int32Array(100));
      const before = tf.memory().numBytes;
      const profile = await tf.profile(() => {
        for (let i = 0; i < 50; i++) cache.append(one, one, Int32Array.of(100 + i));
        return one;
      });
      expect(profile.newBytes).toBe(0);
      expect(tf.memory().numBytes).toBe(before);
      cache.dispose();
      tf.dispose([many, one]);
    });
  });

  it('what does not fit is refused before anything is written', async () => {
    await withoutNativeLeaks(async () => {
      const cache = operations().newCache({ heads: 1, keyValueHeads: 1, headDim: 4 }, 16);
      const [rows, wide] = [matrix(3, 4, 60), matrix(3, 5, 61)];
      expect(() => operations().writeCache(cache, rows, rows, 14)).toThrow('the cache is full');
      expect(() => operations().writeCache(cache, rows, wide, 0)).toThrow('do not fit the cache');
      expect(() => operations().attendCache(wide, cache, 3)).toThrow('do not fit the cache');
      expect(() => operations().attendCache(rows, cache, 2)).toThrow('holds less');
      expect(() => operations().attendCache(rows, cache, 17)).toThrow('holds less');
      const handle = wholeNumbers([0]);
      expect(() => executeAll('VisprunerCacheWrite', [], [...[rows, rows, rows, rows].map(handleOf), handle], 0)).toThrow(
        'not the tensors of a cache',
      );
      deleteHandle(handle);
      expect(() => operations().rmsNorm(rows, cache.keys, 1e-5)).toThrow('do not fit the weight');
      expect(() => operations().swiglu<tf.Tensor>(rows, wide)).toThrow('one shape');
      tf.dispose([cache.keys, cache.values, rows, wide]);
    });
  });

  it('is not used while gradients are recorded', () => {
    const x = matrix(2, 4, 70);
    const gradient = tf.grad((rows) => {
      expect(fused()).toBeUndefined();
      return tf.sum(rows);
    })(x);
    expect(fused()).toBeDefined();
    tf.dispose([x, gradient]);
  });
});
