import * as tf from '@tensorflow/tfjs';
import { Llama } from '../../layers/llama';
import { float32Factory } from '../../lib/backend/matrices';
import { buildModel } from '../../lib/build';
import { prefill } from '../../lib/decoder';
import { Pacer } from '../../lib/pacer';
import { Sequence } from '../../lib/sequence';
import type { TokenModel } from '../../lib/token_model';
import { seedSource } from '../../weights/sources';
import { watchedSignal } from '../support/aborts';
import { withoutLeaks } from '../support/backends';
import { expectClose, expectSame } from '../support/compare';

const IMAGE = 3;
/** CLIP ViT-L/14's 577 tokens and a decoder, of a width at which one block is more than wasm does in one step. */
const CONFIG = {
  model_type: 'llava',
  image_token_index: IMAGE,
  vision_config: { hidden_size: 512, intermediate_size: 2048, num_hidden_layers: 2, num_attention_heads: 8, image_size: 336, patch_size: 14 },
  text_config: {
    model_type: 'llama',
    vocab_size: 2000,
    hidden_size: 512,
    intermediate_size: 2048,
    num_hidden_layers: 2,
    num_attention_heads: 8,
    num_key_value_heads: 2,
    max_position_embeddings: 1024,
  },
};

/** Operations of all matrix products so far. */
let flops = 0;
const engine = tf.engine();
const runKernel = engine.runKernel.bind(engine);
let model: TokenModel;

beforeAll(async () => {
  model = await buildModel(CONFIG, { seed: 5, backend: 'wasm' });
  engine.runKernel = (name, inputs, attributes) => {
    const { a, b } = inputs as { a?: tf.Tensor; b?: tf.Tensor };
    if (name === 'BatchMatMul' && a && b) flops += 2 * a.size * (b.shape.at(-1) as number);
    return runKernel(name, inputs, attributes);
  };
});

afterAll(() => {
  engine.runKernel = runKernel;
  model.dispose();
});

const image = (crops = 1) => ({
  pixelValues: tf.randomNormal<tf.Rank.R4>([crops, 336, 336, 3], 0, 1, 'float32', 1),
  originalSize: { width: 336, height: 336 },
  grid: { rows: 24, columns: 24 },
});

const inputIds = [1, 7, IMAGE, ...Array.from({ length: 60 }, (_, i) => 10 + 3 * i)];
const nothing = () => {};

it('large blocks in steps give what they give in one (a tap has them whole)', async () => {
  const one = image();
  const prune = { method: 'fastv', tokens: 300, layer: 1 } as const;
  for (const options of [{}, { prune }]) {
    const inSteps = await withoutLeaks(async () => {
      const { logits, visual, enteringTokens } = await model.forward({ inputIds, images: [one] }, options);
      const copy = { values: Float32Array.from(await logits.data()), shape: logits.shape, visual, enteringTokens };
      logits.dispose();
      return copy;
    });
    const whole = await model.forward({ inputIds, images: [one] }, { ...options, tap: nothing });
    expect(inSteps.enteringTokens).toEqual(whole.enteringTokens);
    expect(inSteps.visual).toEqual(whole.visual);
    await expectClose(whole.logits, inSteps, 'logits');
    whole.logits.dispose();
  }
  one.pixelValues.dispose();
});

it('the encoder gives the same bits in steps, of one crop and of several', async () => {
  const two = image(2);
  const prune = { method: 'vispruner', tokens: 64 } as const;
  const inSteps = await model.encodeImages([two], { prune });
  const whole = await model.encodeImages([two], { prune, tap: nothing });
  for (const [i, crop] of whole.images[0]?.crops.entries() ?? []) {
    const other = inSteps.images[0]?.crops[i];
    await expectSame(other?.features as tf.Tensor, crop.features, `features of crop ${i}`);
    for (const [key, attention] of crop.attention)
      await expectSame(other?.attention.get(key) as tf.Tensor, attention, `attention ${key} of crop ${i}`);
  }
  inSteps.dispose();
  whole.dispose();
  two.pixelValues.dispose();
});

it('sequences of unequal length in one pass, in steps, equal each alone, also behind what their caches hold', async () => {
  const source = seedSource(2, float32Factory());
  const llama = new Llama(source.root, model.layers.language.shape);
  await source.fill();
  const states = [350, 1, 130].map((rows, i) => tf.randomNormal<tf.Rank.R2>([rows, 512], 0, 1, 'float32', i + 1));
  const held = tf.randomNormal<tf.Rank.R2>([20, 512], 0, 1, 'float32', 9);
  const run = async (which: readonly number[]): Promise<tf.Tensor2D> => {
    const sequences = which.map(() => new Sequence(llama.newCaches()));
    const pass = (inputs: readonly tf.Tensor2D[]) =>
      prefill(
        llama,
        inputs.map((input, i) => ({ sequence: sequences[i] as Sequence, states: input, visualRows: new Int32Array(0) })),
        { pacer: new Pacer() },
      );
    (await pass(which.map(() => held))).states.dispose();
    const { states: result } = await pass(which.map((i) => states[i] as tf.Tensor2D));
    for (const sequence of sequences) sequence.dispose();
    return result;
  };
  const together = await withoutLeaks(async () => {
    const result = await run([0, 1, 2]);
    const parts = tf.split(result, [350, 1, 130]);
    result.dispose();
    const values = await Promise.all(parts.map(async (part) => ({ shape: part.shape, values: Float32Array.from(await part.data()) })));
    tf.dispose(parts);
    return values;
  });
  for (const [i, expected] of together.entries()) {
    const alone = await run([i]);
    await expectClose(alone, expected, `sequence ${i}`);
    alone.dispose();
  }
  tf.dispose([...states, held]);
  source.dispose();
});

it('no more than 2.5 billion operations come between two looks at the signal: an eighth of a second on wasm', async () => {
  const one = image(2);
  let [before, most] = [flops, 0];
  const { signal } = watchedSignal(undefined, () => {
    most = Math.max(most, flops - before);
    before = flops;
  });
  const prune = { method: 'vispruner', tokens: 500 } as const;
  const encoded = await model.encodeImages([one], { prune, signal });
  const total = flops;
  const { logits } = await model.forward({ inputIds, images: encoded }, { prune, signal });
  expect(flops - total).toBeGreaterThan(5e9); // it was counted
  expect(most).toBeGreaterThan(1e9);
  expect(most).toBeLessThanOrEqual(2.55e9); // a little is bookkeeping between steps
  tf.dispose([logits, one.pixelValues]);
  encoded.dispose();
});

it('weights that go to the backend in pieces look up and multiply as whole ones', async () => {
  const [rows, dim] = [33000, 1024]; // three pieces
  const value = (row: number, column: number) => (((row * 31 + column * 17) % 251) - 125) / 64;
  const bytes = new Uint8Array(Float32Array.from({ length: rows * dim }, (_, i) => value(Math.floor(i / dim), i % dim)).buffer);
  const stored = { name: 'e', dtype: 'F32', shape: [rows, dim], bytes } as const;
  const pause = () => Promise.resolve();
  const ids = Int32Array.of(32999, 0, 11001, 10999, 0, 22000);
  for (const head of [true, false]) {
    await withoutLeaks(async () => {
      const embedding = await float32Factory().embedding('e', rows, dim, stored, { head, pause });
      const x = tf.tensor2d(
        Float32Array.from({ length: 2 * dim }, (_, i) => (i % 3) - 1),
        [2, dim],
      );
      for (const turned of [head, true]) {
        const found = embedding.lookup(ids);
        const expected = Float32Array.from({ length: ids.length * dim }, (_, i) => value(ids[Math.floor(i / dim)] as number, i % dim));
        await expectSame(found, { shape: [ids.length, dim], values: expected }, `looked up, ${turned ? 'turned' : 'as stored'}`);
        const product = embedding.project(x);
        const some = tf.tidy(() => tf.gather(product, tf.tensor1d(ids, 'int32'), 1));
        const sums = Float32Array.from({ length: 2 * ids.length }, (_, i) => {
          const id = ids[i % ids.length] as number;
          let sum = 0;
          for (let c = 0; c < dim; c++) sum += value(id, c) * ((((i < ids.length ? 0 : dim) + c) % 3) - 1);
          return sum;
        });
        expect(product.shape).toEqual([2, rows]);
        await expectClose(some, { shape: [2, ids.length], values: sums }, 'products');
        tf.dispose([found, product, some]);
      }
      x.dispose();
      embedding.dispose();
    }).catch((error: Error) => {
      throw new Error(`head ${head}: ${error.message}`);
    });
  }
});
