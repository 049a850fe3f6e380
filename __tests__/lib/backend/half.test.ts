import * as tf from '@tensorflow/tfjs';
import { Linear } from '../../../layers/linear';
import { buildModel } from '../../../lib';
import { nativeFactory } from '../../../lib/backend/native/factory_node';
import { hasOneRowProduct, ONE_ROW_PRODUCT, type OneRowConditions, oneRowAttributes } from '../../../lib/backend/native/one_row_node';
import { attribute, bindingVersion, deleteHandle, execute, fromBytes, handleOf, own, TYPE } from '../../../lib/backend/native/operations_node';
import { bfloat16Hindrance, multipliesIn } from '../../../lib/backend/native/processor_node';
import { choosePrecision } from '../../../lib/backend/precision';
import { Declarations } from '../../../weights/declarations';
import { type Dtype, fromFloat32 } from '../../../weights/dtype';
import type { StoredWeight } from '../../../weights/sources';
import { describeNative, useNative, withoutNativeLeaks } from '../../support/native';

const OPTIONS = { head: false, pause: () => Promise.resolve() };

/** All ways to multiply with each type, whichever is the fast one here. */
const WAYS = [
  ['float32', 'fused'],
  ['bfloat16', 'multiplied'],
  ['bfloat16', 'widened'],
  ['bfloat16', 'fused'],
  ['float16', 'multiplied'],
  ['float16', 'widened'],
  ['float16', 'fused'],
] as const;

function stored(dtype: Dtype, shape: readonly number[], bytes: Uint8Array): StoredWeight {
  return { name: 'w', dtype, shape, bytes };
}

/** Small whole numbers: they, their products and sums of 16 products are exact in every precision, so results must be equal bit by bit. */
function wholes(rows: number, columns: number, seed: number): Float32Array {
  return Float32Array.from({ length: rows * columns }, (_, i) => ((i * 7 + seed * 3 + ((i * i) % 5)) % 7) - 3);
}

const bytesOf = (values: Float32Array | Uint16Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** The upper half of float32 is bfloat16, exactly for whole numbers below 256. */
const upperHalves = (values: Float32Array) => Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);

async function largestDifference(a: tf.Tensor, b: tf.Tensor): Promise<number> {
  expect(a.shape).toEqual(b.shape);
  const [left, right] = [Float32Array.from(await a.data()), await b.data()];
  return left.reduce((largest, value, i) => Math.max(largest, Math.abs(value - (right[i] as number))), 0);
}

describeNative('matrices in reduced precision', () => {
  beforeAll(useNative);

  it.each(WAYS)('%s (%s): products of 0, 1, 2, 8 and 9 rows are exact where the numbers are, and nothing is left behind', async (dtype, way) => {
    await withoutNativeLeaks(async () => {
      const weight = wholes(5, 16, 1);
      const matrix = await nativeFactory(dtype, way).matrix('w', 16, 5, stored('F32', [5, 16], bytesOf(weight)), OPTIONS);
      const exact = tf.tensor2d(weight, [5, 16]);
      for (const rows of [0, 1, 2, 8, 9]) {
        const x = tf.tensor2d(wholes(rows, 16, 2), [rows, 16]);
        const [ours, expected] = [matrix.apply(x), tf.matMul<tf.Tensor2D>(x, exact, false, true)];
        expect([ours.dtype, ours.shape, [...(await ours.data())]]).toEqual(['float32', [rows, 5], [...(await expected.data())]]);
        tf.dispose([x, ours, expected]);
      }
      exact.dispose();
      matrix.dispose();
    });
  });

  it('bfloat16 bytes are taken as they are, from any address', async () => {
    await withoutNativeLeaks(async () => {
      const weight = wholes(5, 16, 3);
      const halves = bytesOf(upperHalves(weight));
      const x = tf.tensor2d(wholes(2, 16, 4), [2, 16]);
      const expected = tf.tidy(() => tf.matMul(x, tf.tensor2d(weight, [5, 16]), false, true));
      for (const offset of [0, 1, 48, 64]) {
        const bytes = new Uint8Array(halves.length + offset).subarray(offset);
        bytes.set(halves);
        const matrix = await nativeFactory('bfloat16').matrix('w', 16, 5, stored('BF16', [5, 16], bytes), OPTIONS);
        const product = matrix.apply(x);
        expect([...(await product.data())]).toEqual([...(await expected.data())]);
        product.dispose();
        matrix.dispose();
      }
      tf.dispose([x, expected]);
    });
  });

  it('float32 is rounded to nearest, ties to even, and float16 is told when a weight is too large for it', async () => {
    const held = async (value: number) => {
      const matrix = await nativeFactory('bfloat16').matrix('w', 1, 1, stored('F32', [1, 1], bytesOf(Float32Array.of(value))), OPTIONS);
      const product = tf.tidy(() => matrix.apply(tf.ones([1, 1])));
      const [result] = await product.data();
      product.dispose();
      matrix.dispose();
      return result;
    };
    await withoutNativeLeaks(async () => {
      // bfloat16 has 7 bits of fraction
      expect(await held(1 + 2 ** -8)).toBe(1);
      expect(await held(1 + 3 * 2 ** -8)).toBe(1 + 2 ** -6);
      expect(await held(1 + 2 ** -8 + 2 ** -20)).toBe(1 + 2 ** -7);
      const large = stored('F32', [1, 2], bytesOf(Float32Array.of(1, 70000)));
      await expect(async () => nativeFactory('float16').matrix('w', 2, 1, large, OPTIONS)).rejects.toMatchObject({ code: 'HALF_OVERFLOW' });
      const brain = stored('BF16', [1, 2], bytesOf(upperHalves(Float32Array.of(1, 131072))));
      await expect(async () => nativeFactory('float16').matrix('w', 2, 1, brain, OPTIONS)).rejects.toMatchObject({ code: 'HALF_OVERFLOW' });
    });
  });

  it('an abort in the middle of rounding leaves nothing', async () => {
    await withoutNativeLeaks(async () => {
      const weight = stored('F32', [2048, 1024], new Uint8Array(2048 * 1024 * 4));
      const pause = () => Promise.reject(new Error('aborted'));
      await expect(async () => nativeFactory('bfloat16').matrix('w', 1024, 2048, weight, { head: false, pause })).rejects.toThrow('aborted');
    });
  });

  it.each(WAYS)('%s (%s): an embedding is looked up and serves as the head from one copy', async (dtype, way) => {
    await withoutNativeLeaks(async () => {
      const table = wholes(9, 16, 5);
      const embedding = await nativeFactory(dtype, way).embedding('w', 9, 16, stored('F32', [9, 16], bytesOf(table)), {
        ...OPTIONS,
        head: true,
      });
      const found = embedding.lookup(Int32Array.of(8, 0, 8));
      expect([...(await found.data())]).toEqual([...table.slice(128), ...table.slice(0, 16), ...table.slice(128)]);
      const none = embedding.lookup(new Int32Array(0));
      expect(none.shape).toEqual([0, 16]);
      const x = tf.tensor2d(wholes(1, 16, 6), [1, 16]);
      const [logits, expected] = [embedding.project(x), tf.tidy(() => tf.matMul(x, tf.tensor2d(table, [9, 16]), false, true))];
      expect([...(await logits.data())]).toEqual([...(await expected.data())]);
      tf.dispose([found, none, x, logits, expected]);
      embedding.dispose();
    });
  });

  it.each(['multiplied', 'widened', 'fused'] as const)(
    'gradients reach what lies before a frozen matrix, and adapters beside it (LoRA); %s',
    async (way) => {
      await withoutNativeLeaks(async () => {
        const weight = wholes(5, 16, 7);
        const matrix = await nativeFactory('bfloat16', way).matrix('w', 16, 5, stored('F32', [5, 16], bytesOf(weight)), OPTIONS);
        const exact = tf.tensor2d(weight, [5, 16]);
        const variable = (rows: number, columns: number, seed: number) =>
          tf.tidy(() => tf.variable(tf.tensor2d(wholes(rows, columns, seed), [rows, columns])));
        const [first, down, up] = [variable(16, 16, 11), variable(16, 2, 8), variable(2, 5, 9)] as const;
        const x = tf.tensor2d(wholes(3, 16, 10), [3, 16]);
        const loss = (frozen: (rows: tf.Tensor2D) => tf.Tensor2D) => () => {
          const rows = tf.div<tf.Tensor2D>(tf.matMul(x, first), 8);
          return tf.sum<tf.Scalar>(tf.tanh(tf.div(tf.add(frozen(rows), tf.matMul(tf.matMul(rows, down), up)), 16)));
        };
        const ours = tf.variableGrads(loss((rows) => matrix.apply(rows)));
        const expected = tf.variableGrads(loss((rows) => tf.matMul(rows, exact, false, true)));
        expect(Object.keys(ours.grads)).toHaveLength(3);
        for (const [name, gradient] of Object.entries(ours.grads)) {
          const [actual, wanted] = [await gradient.data(), await (expected.grads[name] as tf.Tensor).data()];
          const largest = Math.max(...wanted.map(Math.abs));
          // dy and the product are rounded once each, by 2^-9 of themselves at most; sums of 16 hide behind the largest of them
          for (const [i, value] of actual.entries()) expect(Math.abs(value - (wanted[i] as number)) / largest).toBeLessThan(2 ** -6);
        }
        tf.dispose([ours.value, ours.grads, expected.value, expected.grads, exact, down, up, first, x]);
        matrix.dispose();
      });
    },
  );

  it.each([8192, 8190])('a large weight [601, %d] is multiplied piece by piece, with the results and the gradient of one', async (inDim) => {
    await withoutNativeLeaks(async () => {
      const weight = wholes(601, inDim, 12);
      const matrix = await nativeFactory('bfloat16', 'widened').matrix('w', inDim, 601, stored('F32', [601, inDim], bytesOf(weight)), OPTIONS);
      const exact = tf.tensor2d(weight, [601, inDim]);
      for (const rows of [1, 3]) {
        const x = tf.tensor2d(wholes(rows, inDim, 13), [rows, inDim]);
        const [ours, expected] = [matrix.apply(x), tf.matMul<tf.Tensor2D>(x, exact, false, true)];
        expect([...(await ours.data())]).toEqual([...(await expected.data())]); // sums below 2^24 are exact in float32
        const [dx, wanted] = [
          tf.grad((rows) => tf.sum(tf.mul(matrix.apply(rows as tf.Tensor2D), ours)))(x),
          tf.grad((rows) => tf.sum(tf.mul(tf.matMul(rows as tf.Tensor2D, exact, false, true), ours)))(x),
        ];
        expect([...(await dx.data())]).toEqual([...(await wanted.data())]);
        tf.dispose([x, ours, expected, dx, wanted]);
      }
      const looked = await nativeFactory('bfloat16', 'widened').embedding('e', 601, inDim, stored('F32', [601, inDim], bytesOf(weight)), OPTIONS);
      const found = looked.lookup(Int32Array.of(600, 0));
      expect([...(await found.data())]).toEqual([...weight.slice(600 * inDim), ...weight.slice(0, inDim)]);
      tf.dispose([exact, found]);
      looked.dispose();
      matrix.dispose();
    });
  });

  it('int8 is within half a step of each row from every stored type; lookups, products of 0 to 13 rows and gradients use the same numbers', async () => {
    await withoutNativeLeaks(async () => {
      const [rows, columns] = [7, 37];
      // eighths up to 15.875 times a power of two by row: exact in every stored type
      const values = Float32Array.from({ length: rows * columns }, (_, i) => {
        const scale = 2 ** ((Math.floor(i / columns) % 5) - 2);
        return (scale * (((i * 37 + i * i) % 255) - 127)) / 8;
      });
      values.fill(0, 6 * columns); // a row of zeros stays one
      const float16 = fromFloat32('F16', values);
      const forms = [
        stored('F32', [rows, columns], bytesOf(values)),
        stored('BF16', [rows, columns], bytesOf(upperHalves(values))),
        stored('F16', [rows, columns], float16.bytes),
        stored('F64', [rows, columns], new Uint8Array(Float64Array.from(values).buffer)),
      ];
      for (const form of forms) {
        const matrix = await nativeFactory('int8').matrix('w', columns, rows, form, OPTIONS);
        const table = await nativeFactory('int8').embedding('w', rows, columns, form, OPTIONS);
        const found = table.lookup(Int32Array.from({ length: rows }, (_, i) => i));
        const held = await found.data();
        for (let row = 0; row < rows; row++) {
          const exact = values.subarray(row * columns, (row + 1) * columns);
          const step = Math.max(...exact.map(Math.abs)) / 127;
          for (const [i, value] of exact.entries()) expect(Math.abs((held[row * columns + i] as number) - value)).toBeLessThanOrEqual(0.5001 * step);
        }
        for (const count of [0, 1, 2, 5, 13]) {
          const x = tf.tensor2d(wholes(count, columns, 2), [count, columns]);
          const [ours, expected] = [matrix.apply(x), tf.matMul<tf.Tensor2D>(x, found, false, true)];
          expect(await largestDifference(ours, expected)).toBeLessThan(1e-3); // of sums up to 2,000
          if (count > 0) {
            const [dx, wanted] = [
              tf.grad((r) => tf.sum(tf.mul(matrix.apply(r as tf.Tensor2D), expected)))(x),
              tf.grad((r) => tf.sum(tf.mul(tf.matMul(r as tf.Tensor2D, found, false, true), expected)))(x),
            ];
            expect(await largestDifference(dx, wanted)).toBeLessThan(0.1); // of sums up to 200,000
            tf.dispose([dx, wanted]);
          }
          tf.dispose([x, ours, expected]);
        }
        found.dispose();
        table.dispose();
        matrix.dispose();
      }
    });
  });

  it('a weight that is not finite makes what its row gives NaN in int8, not a number that looks right', async () => {
    await withoutNativeLeaks(async () => {
      const weight = stored('F32', [2, 2], bytesOf(Float32Array.of(1, Number.POSITIVE_INFINITY, 1, 1)));
      const matrix = await nativeFactory('int8').matrix('w', 2, 2, weight, OPTIONS);
      const x = tf.ones<tf.Rank.R2>([1, 2]);
      const product = matrix.apply(x);
      const [first, second] = await product.data();
      expect(first).toBeNaN();
      expect(second).toBeCloseTo(2, 5);
      tf.dispose([x, product]);
      matrix.dispose();
    });
  });

  it('auto holds weights as they are stored, in 16 bits, where that loses nothing and is fast', async () => {
    for (const type of ['bfloat16', 'float16'] as const) {
      const { dtype, warnings } = await choosePrecision('auto', 'tensorflow', type);
      expect([dtype, warnings]).toEqual([multipliesIn('bfloat16') ? 'bfloat16' : type, []]);
    }
  });

  it('a linear layer keeps its bias in float32', async () => {
    await withoutNativeLeaks(async () => {
      const declarations = new Declarations();
      const linear = new Linear(declarations.root, 2, 1, { bias: true });
      const factory = nativeFactory('bfloat16');
      declarations.put('matrix', 'weight', await factory.matrix('weight', 2, 1, stored('F32', [1, 2], bytesOf(Float32Array.of(1, 2))), OPTIONS));
      declarations.put('tensor', 'bias', factory.tensor('bias', [1], stored('F32', [1], bytesOf(Float32Array.of(1 + 2 ** -20)))));
      const x = tf.tensor2d([1, 1], [1, 2]);
      const y = linear.apply(x);
      expect([...(await y.data())]).toEqual([4 + 2 ** -20]); // 1 x 1 + 1 x 2 + the bias
      tf.dispose([x, y]);
      declarations.dispose();
    });
  });

  it('what TensorFlow refuses is an error that leaves no handle', async () => {
    await withoutNativeLeaks(async () => {
      const factory = nativeFactory('bfloat16');
      const matrix = await factory.matrix('w', 16, 5, stored('F32', [5, 16], bytesOf(wholes(5, 16, 1))), OPTIONS);
      const x = tf.zeros<tf.Rank.R2>([2, 15]);
      expect(() => matrix.apply(x)).toThrow();
      const table = await factory.embedding('e', 5, 16, stored('F32', [5, 16], bytesOf(wholes(5, 16, 1))), OPTIONS);
      expect(() => table.lookup(Int32Array.of(5))).toThrow(/is not in \[0, 5\)/);
      x.dispose();
      table.dispose();
      matrix.dispose();
    });
  });

  it('a tensor owned by tfjs is freed by tidy, kept by keep, and counted once under its clones', async () => {
    await withoutNativeLeaks(async () => {
      const kept = tf.tidy(() => {
        const weight = fromBytes(new Uint8Array(8), [2, 2], TYPE.bfloat16);
        return tf.keep(weight.clone());
      });
      const back = own(execute('Cast', [attribute.type('SrcT', 14), attribute.type('DstT', 1), attribute.flag('Truncate', false)], [handleOf(kept)]));
      expect([...(await back.data())]).toEqual([0, 0, 0, 0]);
      tf.dispose([kept, back]);
    });
  });

  it('the binding was built with the additions: the product of one row, in float32, which any processor has, takes its lists of strings', async () => {
    expect(bindingVersion().patch).toBeGreaterThanOrEqual(1); // "npm run native" builds it anew
    await withoutNativeLeaks(async () => {
      const [x, weight, bias] = [tf.tensor2d(wholes(1, 16, 1), [1, 16]), tf.tensor2d(wholes(5, 16, 2), [5, 16]), tf.tensor1d(wholes(1, 5, 3))];
      const product = [attribute.type('T', TYPE.float32), attribute.flag('transpose_a', false), attribute.flag('transpose_b', true)];
      const ours = own(execute(ONE_ROW_PRODUCT, [...product, ...oneRowAttributes()], [x, weight, bias].map(handleOf)));
      const expected = tf.tidy(() => tf.add(tf.matMul(x, weight, false, true), bias));
      expect([...(await ours.data())]).toEqual([...(await expected.data())]);
      tf.dispose([x, weight, bias, ours, expected]);
    });
  });

  it('a model built in bfloat16 answers like the same in float32, says its precision, and leaves nothing', async () => {
    const config = { model_type: 'llama', vocab_size: 64, hidden_size: 32, num_attention_heads: 2, num_hidden_layers: 2, intermediate_size: 48 };
    await withoutNativeLeaks(async () => {
      const rows: Float32Array[] = [];
      for (const dtype of ['float32', 'bfloat16'] as const) {
        const model = await buildModel(config, { seed: 7, backend: 'tensorflow', dtype });
        expect(model.dtype).toBe(dtype);
        const { logits } = await model.forward({ inputIds: [1, 2, 3, 4] });
        rows.push(Float32Array.from(await logits.data()));
        logits.dispose();
        const { ids } = await model.generate({ inputIds: [1, 2, 3] }, { maxNewTokens: 3 });
        expect(ids).toHaveLength(3);
        model.dispose();
      }
      const [exact, half] = rows as [Float32Array, Float32Array];
      const rms = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
      const noise = rms(half.map((value, i) => value - (exact[i] as number))) / rms(exact);
      expect(noise).toBeLessThan(0.02);
      expect(noise).toBeGreaterThan(1e-4); // else nothing was held in bfloat16
    });
  });

  it('auto stays in float32 for weights that are stored so', async () => {
    expect((await choosePrecision('auto', 'tensorflow', 'float32')).dtype).toBe('float32');
  });

  it('a weight that was deleted twice, or used after it, is an error of JavaScript', () => {
    const weight = fromBytes(new Uint8Array(8), [2, 2], TYPE.bfloat16);
    const id = handleOf(weight);
    weight.dispose();
    expect(() => deleteHandle(id)).toThrow();
    expect(() => execute('Cast', [attribute.type('SrcT', 14), attribute.type('DstT', 1)], [id])).toThrow();
  });
});

describe('where half precision is possible', () => {
  it('is refused on backends that have none, whose auto is float32; unknown names are refused everywhere', async () => {
    await expect(choosePrecision('bfloat16', 'wasm', 'bfloat16')).rejects.toMatchObject({ code: 'DTYPE_UNAVAILABLE' });
    await expect(choosePrecision('float16', 'webgpu', 'bfloat16')).rejects.toMatchObject({ code: 'DTYPE_UNAVAILABLE' });
    await expect(choosePrecision('int8', 'wasm', 'float32')).rejects.toMatchObject({ code: 'DTYPE_UNAVAILABLE' });
    await expect(choosePrecision('half' as 'auto', 'wasm', 'bfloat16')).rejects.toMatchObject({ code: 'UNKNOWN_PRECISION' });
    expect((await choosePrecision('auto', 'wasm', 'bfloat16')).dtype).toBe('float32');
    expect((await choosePrecision(undefined, 'cpu', 'bfloat16')).dtype).toBe('float32');
  });

  it('calls the product of one row, which ends the process where it is missing, only where all that it needs is there', () => {
    const here: OneRowConditions = { tensorflow: '2.21.0', patch: 1, device: 'cpu', fastBfloat16: true };
    expect(hasOneRowProduct(here)).toBe(true);
    const lacks: Partial<OneRowConditions>[] = [{ patch: 0 }, { tensorflow: '2.9.1' }, { device: 'gpu' }, { fastBfloat16: false }];
    for (const lack of lacks) expect(hasOneRowProduct({ ...here, ...lack })).toBe(false);
  });

  it.each([
    [{}, undefined],
    [{ TF_ENABLE_ONEDNN_OPTS: '1' }, undefined],
    [{ TF_ENABLE_ONEDNN_OPTS: '0' }, 'TF_ENABLE_ONEDNN_OPTS=0'],
    [{ TF_ENABLE_ONEDNN_OPTS: 'False' }, 'TF_ENABLE_ONEDNN_OPTS=False'],
    [{ ONEDNN_MAX_CPU_ISA: 'AVX2' }, 'ONEDNN_MAX_CPU_ISA=AVX2'],
    [{ DNNL_MAX_CPU_ISA: 'AVX512_CORE' }, 'ONEDNN_MAX_CPU_ISA=AVX512_CORE'],
    [{ ONEDNN_MAX_CPU_ISA: 'AVX512_CORE_BF16' }, undefined],
    [{ ONEDNN_MAX_CPU_ISA: 'AVX512_CORE_AMX' }, undefined],
  ])('sees in the environment %j what keeps oneDNN from bfloat16', (environment, hindrance) => {
    expect(bfloat16Hindrance(environment)).toBe(hindrance);
  });
});
