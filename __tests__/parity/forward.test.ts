import * as tf from '@tensorflow/tfjs';
import type { TokenModel } from '../../lib/token_model';
import type { TokenRequest } from '../../lib/token_request';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose, expectSame } from '../support/compare';
import { disposeImages, fixtureImages, fixtureModel, oneTokenAnImage, type RecordedCase } from '../support/fixture_model';
import { RecordedFile, readJson } from '../support/recorded';

const { cases } = readJson<{ cases: RecordedCase[] }>('gqa', 'reference.json');
const plain = cases.filter((one) => one.method === undefined);
const reference = new RecordedFile('gqa', 'reference.safetensors');

/** Gives a model and a request of a recorded case to `run`, and frees both. */
async function withCase(
  backend: (typeof BACKENDS)[number],
  one: RecordedCase,
  run: (model: TokenModel, request: TokenRequest) => Promise<void>,
): Promise<void> {
  await withoutLeaks(async () => {
    const model = fixtureModel('gqa', backend, one.config);
    const images = fixtureImages('gqa', one.images);
    try {
      await run(model, { inputIds: one.input_ids, images });
    } finally {
      disposeImages(images);
      model.dispose();
    }
  });
}

describe.each(BACKENDS)('the whole model against transformers on %s', (backend) => {
  beforeAll(() => useBackend(backend));
  const some = backend === 'wasm' ? plain : plain.filter((one) => ['default', 'two-images'].includes(one.name)); // cpu is slow

  it.each(some)('$name: logits of every row', async (one) => {
    await withCase(backend, one, async (model, request) => {
      const { logits } = await model.forward(request);
      await expectClose(logits, reference.get(`${one.name}.logits`), one.name);
      logits.dispose();
    });
  });

  it.each(some)('$name: greedy ids with the cache', async (one) => {
    await withCase(backend, one, async (model, request) => {
      const { ids, finishReason } = await model.generate(request, { maxNewTokens: one.greedy.length, temperature: 0 });
      expect([...ids]).toEqual(one.greedy);
      expect(finishReason).toBe('length');
    });
  });
});

describe('the whole model on wasm', () => {
  beforeAll(() => useBackend('wasm'));

  it.each(plain)('$name: greedy ids without the cache, the whole prompt anew for each', async (one) => {
    await withCase('wasm', one, async (model, request) => {
      const ids: number[] = [];
      for (const expected of one.greedy) {
        const { logits } = await model.forward({ ...request, inputIds: [...one.input_ids, ...ids] });
        ids.push(await lastArgMax(logits));
        logits.dispose();
        expect(ids.at(-1)).toBe(expected);
      }
    });
  });

  it.each(plain.filter((one) => one.images > 0))(
    '$name: one image token an image gives exactly what the repeated tokens of transformers’ processor give',
    async (one) => {
      await withCase('wasm', one, async (model, request) => {
        const repeated = await model.forward(request);
        const single = await model.forward({ ...request, inputIds: oneTokenAnImage(one.input_ids, 60) });
        await expectSame(single.logits, repeated.logits, one.name);
        tf.dispose([single.logits, repeated.logits]);
      });
    },
  );

  it('tiny-llava-hf (multi-head, quick-GELU, a head of its own): logits and greedy ids', async () => {
    const recorded = new RecordedFile('tiny-llava-hf', 'reference.safetensors');
    const { greedy } = readJson<{ greedy: number[] }>('tiny-llava-hf', 'reference.json');
    await withoutLeaks(async () => {
      const model = fixtureModel('tiny-llava-hf', 'wasm');
      const images = fixtureImages('tiny-llava-hf', 1);
      const request = { inputIds: recorded.ids('input_ids'), images };
      const { logits } = await model.forward(request);
      await expectClose(logits, recorded.get('logits'), 'logits');
      const { ids } = await model.generate(request, { maxNewTokens: greedy.length, temperature: 0 });
      expect([...ids]).toEqual(greedy);
      logits.dispose();
      disposeImages(images);
      model.dispose();
    });
  });

  it('several requests decoded together, of different lengths and images, give the ids that each gives alone', async () => {
    const together = ['default', 'two-images', 'no-image'].map((name) => cases.find((one) => one.name === name) as RecordedCase);
    await withoutLeaks(async () => {
      const model = fixtureModel('gqa', 'wasm');
      const images = fixtureImages('gqa', 2);
      const requests = together.map((one) => ({ inputIds: one.input_ids, images: images.slice(0, one.images) }));
      const results = await model.generateBatch(requests, { maxNewTokens: 12, temperature: 0 });
      expect(results.map(({ ids }) => [...ids])).toEqual(together.map(({ greedy }) => greedy));
      disposeImages(images);
      model.dispose();
    });
  });

  it('a tap sees all modules of the checkpoint, and leaves the logits as they are', async () => {
    const one = cases[0] as RecordedCase;
    await withCase('wasm', one, async (model, request) => {
      const names = new Set<string>();
      const tapped = await model.forward(request, { tap: (name) => void names.add(name) });
      const untapped = await model.forward(request);
      await expectSame(tapped.logits, untapped.logits, 'logits under a tap');
      tf.dispose([tapped.logits, untapped.logits]);
      // vision_feature_layer -2 of 3 blocks: the last one is never run
      for (const name of [
        'vision_tower.pre_layrnorm',
        'vision_tower.encoder.layers.1',
        'language_model.model.layers.2',
        'language_model.model.norm',
      ]) {
        expect(names).toContain(name);
      }
      expect(names).not.toContain('vision_tower.encoder.layers.2');
    });
  });
});

async function lastArgMax(logits: tf.Tensor2D): Promise<number> {
  const best = tf.tidy(() => tf.argMax(tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]), -1));
  const [id] = await best.data();
  best.dispose();
  return id as number;
}
