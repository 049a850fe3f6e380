import * as tf from '@tensorflow/tfjs';
import { softwareName } from '../../../lib/backend/webgpu';
import { verdict } from '../../../lib/cli/doctor_report';
import { withoutLeaks } from '../../support/backends';
import { disposeImages, fixtureImages, fixtureModel, type RecordedCase } from '../../support/fixture_model';
import { readJson } from '../../support/recorded';
import { describeWebgpu, useWebgpu } from '../../support/webgpu';

const named = (description: string, device = '', architecture = '', vendor = '') => ({ info: { vendor, architecture, device, description } });

describe('adapters that compute in software', () => {
  it.each([
    ['SwiftShader driver 5.0.0', named('SwiftShader driver 5.0.0', 'swiftshader-device-subzero-', 'swiftshader', 'google')],
    ['swiftshader', named('', '', 'swiftshader', 'google')], // Chrome hides the other names
    ['llvmpipe (LLVM 15.0.6, 256 bits)', named('llvmpipe (LLVM 15.0.6, 256 bits)', '', '', 'mesa')],
    ['Microsoft Basic Render Driver', named('Microsoft Basic Render Driver', '0x8c', '', 'microsoft')],
    ['Some driver', { info: { ...named('Some driver').info, isFallbackAdapter: true } }],
    ['a fallback adapter', { isFallbackAdapter: true }],
  ])('%s', (name, adapter) => expect(softwareName(adapter)).toBe(name));

  it.each([
    named('NVIDIA GeForce RTX 4090', '0x2684', 'ada', 'nvidia'),
    named('Apple M1 Max', '', 'metal-3', 'apple'),
    named('', '', 'gen-12lp', 'intel'),
    named('', '', '', ''),
    {},
  ])('not %j', (adapter) => expect(softwareName(adapter)).toBeUndefined());
});

it('doctor says that an adapter computes in software, and that "auto" does not take it', () => {
  const works = { available: true, rates: [] };
  const { auto, backends } = verdict([
    { ...works, backend: 'webgpu', software: 'SwiftShader driver 5.0.0' },
    { ...works, backend: 'wasm' },
  ]);
  expect(auto).toBe('wasm');
  expect(backends.map(({ advice }) => advice)).toEqual([expect.stringMatching(/software adapter \(SwiftShader driver 5\.0\.0\)/), undefined]);
  expect(verdict([{ ...works, backend: 'webgpu' }]).auto).toBe('webgpu');
});

interface Counted {
  readonly submissions: number;
  readonly reads: number;
}

/** Counts submissions to the queue and readbacks while something runs. */
async function counted(run: () => Promise<void>): Promise<Counted> {
  const { queue } = tf.backend() as unknown as { queue: { submit(buffers: object[]): void } };
  const { GPUBuffer } = globalThis as unknown as { GPUBuffer: { prototype: { mapAsync(mode: number): Promise<void> } } };
  const submit = jest.spyOn(queue, 'submit');
  const map = jest.spyOn(GPUBuffer.prototype, 'mapAsync');
  try {
    await run();
    return { submissions: submit.mock.calls.length, reads: map.mock.calls.length };
  } finally {
    submit.mockRestore();
    map.mockRestore();
  }
}

describeWebgpu('webgpu', () => {
  beforeAll(useWebgpu);

  const { cases } = readJson<{ cases: RecordedCase[] }>('gqa', 'reference.json');
  const one = cases[0] as RecordedCase;

  /** The same images with pixels that are not on the GPU yet, as prepared ones are. */
  async function fromHere(images: ReturnType<typeof fixtureImages>): Promise<ReturnType<typeof fixtureImages>> {
    const pixels = await Promise.all(images.map(({ pixelValues }) => pixelValues.data()));
    disposeImages(images);
    return images.map((image, i) => ({ ...image, pixelValues: tf.tensor4d(pixels[i] as Float32Array, image.pixelValues.shape) }));
  }

  async function prefill(blocks: number, tokens?: number): Promise<Counted> {
    const model = fixtureModel('gqa', 'webgpu', { text_config: { num_hidden_layers: blocks } });
    const images = await fromHere(fixtureImages('gqa', 1));
    const prune = tokens === undefined ? undefined : ({ method: 'vispruner', tokens } as const);
    try {
      return await counted(async () => {
        await model.generate({ inputIds: one.input_ids, images }, { prune, maxNewTokens: 1, temperature: 0 });
      });
    } finally {
      disposeImages(images);
      model.dispose();
    }
  }

  it('reads a prompt with one submission more for each block more, and no readback but that of the logits', async () => {
    await withoutLeaks(async () => {
      const [one, two, three] = [await prefill(1), await prefill(2), await prefill(3)];
      expect([two.submissions - one.submissions, three.submissions - two.submissions]).toEqual([1, 1]);
      expect([one.reads, two.reads, three.reads]).toEqual([1, 1, 1]);
    });
  });

  it('selects with one readback more', async () => {
    const { reads } = await prefill(1, 8);
    expect(reads).toBe(2);
  });

  /** tfjs chooses among four programs by shape. Software adapters are given one of them; the other three are what a GPU takes. */
  it.each([
    ['MatMulReduce', 0, 1, 37, 61],
    ['MatMulSplitK', 1, 3, 2051, 37],
    ['MatMulSmallOutputSize', 2, 5, 37, 61],
    ['MatMulPacked', 3, 33, 37, 61],
    ['MatMulPacked', 3, 1, 64, 64],
  ])('%s (%i): [%i, %i] times that by %i is the product', async (_name, type, rows, inner, columns) => {
    const flag = 'WEBGPU_MATMUL_PROGRAM_TYPE';
    const whole = (count: number, seed: number) => Float32Array.from({ length: count }, (_, i) => ((i * 7 + seed + ((i * i) % 5)) % 7) - 3);
    const [left, right] = [whole(rows * inner, 1), whole(inner * columns, 2)];
    const expected = Array.from({ length: rows * columns }, (_, at) => {
      const [row, column] = [Math.floor(at / columns), at % columns];
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += (left[row * inner + k] as number) * (right[k * columns + column] as number);
      return sum;
    }); // of small whole numbers: exact in float32 in any order
    await withoutLeaks(async () => {
      const before = tf.env().get(flag) as number;
      tf.env().set(flag, type);
      try {
        const product = tf.tidy(() => tf.matMul(tf.tensor2d(left, [rows, inner]), tf.tensor2d(right, [inner, columns])));
        expect([...(await product.data())]).toEqual(expected);
        product.dispose();
      } finally {
        tf.env().set(flag, before);
      }
    });
  });

  it('a large tensor is on the GPU when it is made', () => {
    const size = 2 ** 20;
    const before = (tf.memory() as unknown as { numBytesInGPU: number }).numBytesInGPU;
    const tensor = tf.tensor1d(new Float32Array(size));
    expect((tf.memory() as unknown as { numBytesInGPU: number }).numBytesInGPU - before).toBe(4 * size);
    tensor.dispose();
  });

  it('tensors of ever other sizes fill the memory with no more than 128 MiB of free buffers, and values are right across it', async () => {
    const held = () => (tf.memory() as unknown as { numBytesAllocatedInGPU: number }).numBytesAllocatedInGPU;
    const before = held();
    let most = 0;
    for (let i = 0; i < 64; i++) {
      const sum = tf.tidy(() => tf.sum(tf.add(tf.fill([2 ** 20 + i], i), 1)));
      const [value] = await sum.data();
      expect((value as number) / ((2 ** 20 + i) * (i + 1))).toBeCloseTo(1, 5);
      sum.dispose();
      most = Math.max(most, held() - before);
    }
    expect(most).toBeGreaterThan(64 * 2 ** 20); // there was something to destroy: 8 MiB a round
    expect(most).toBeLessThanOrEqual((128 + 16) * 2 ** 20);
  });

  it('a large tensor that is disposed before its upload was submitted harms nothing', async () => {
    const size = 2 ** 20;
    for (let i = 0; i < 40; i++) {
      tf.tensor1d(new Float32Array(size + 4 * (i % 2)).fill(i)).dispose();
      tf.dispose(tf.tensor1d(new Float32Array(size + i)));
    }
    const last = tf.tensor1d(new Float32Array(size).fill(2));
    const sum = tf.sum(last);
    expect([...(await sum.data())]).toEqual([2 * size]);
    tf.dispose([last, sum]);
  });
});
