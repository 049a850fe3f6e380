import { existsSync } from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel } from '../../lib/load';
import { sglGuidance, sglImportance } from '../../lib/sgl';
import { sceneSamples } from '../../lib/tune/samples';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { disposeImages, fixtureImages, fixtureModel, oneTokenAnImage, type RecordedCase } from '../support/fixture_model';
import { readJson } from '../support/recorded';

const IMAGE = 60;
const ONE = readJson<{ cases: RecordedCase[] }>('gqa', 'reference.json').cases.find(({ name }) => name === 'default') as RecordedCase;
const SHIPPED = 'weights/vispruner-tiny';
const withShipped = existsSync(path.join(SHIPPED, 'model.safetensors')) ? describe : describe.skip;

describe.each(BACKENDS)('the importance that a small model gives, on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('is what the maps of prefill and of every decoding step add up to, over rows behind the image, heads and blocks', async () => {
    await withoutLeaks(async () => {
      const model = fixtureModel('gqa', backend, ONE.config);
      const images = fixtureImages('gqa', 1);
      const request = { inputIds: oneTokenAnImage(ONE.input_ids, IMAGE), images };
      const maps: tf.Tensor3D[] = [];
      const tap = (name: string, value: tf.Tensor) => {
        if (/^language_model.*#probabilities$/.test(name)) maps.push(tf.keep(value.clone() as tf.Tensor3D));
      };
      const { ids, visual, finishReason } = await model.generate(request, { maxNewTokens: 4, temperature: 0, tap });
      expect(finishReason).toBe('length');
      const first = request.inputIds.indexOf(IMAGE);
      const count = visual[0]?.tokens as number;
      const expected = new Array<number>(count).fill(0);
      for (const map of maps) {
        for (const head of (await map.array()) as number[][][]) {
          const rows = head.length > 1 ? head.slice(first + count - 1) : head; // the last visual token counts among the text
          for (const row of rows)
            for (let token = 0; token < count; token++) expected[token] = (expected[token] as number) + (row[first + token] as number);
        }
      }
      const importance = await sglImportance(model, request, ids.subarray(0, -1));
      expect(importance).toHaveLength(count);
      for (const [token, value] of importance.entries()) expect(value).toBeCloseTo(expected[token] as number, 4);
      tf.dispose(maps);
      disposeImages(images);
      model.dispose();
    });
  });
});

withShipped('guidance by the shipped model', () => {
  it('gives its answer, how sure it is, and importance that the same grid takes', async () => {
    await useBackend('wasm');
    await withoutLeaks(async () => {
      const model = await loadModel(SHIPPED, { backend: 'wasm' });
      const [sample] = sceneSamples(1);
      const image = await sample!.image();
      const question = sample!.question;
      const guidance = await sglGuidance(model, image, question, { keepRatio: 1 });
      const { text } = await model.ask(image, question, { temperature: 0 });
      expect(guidance.text).toBe(text);
      expect(guidance.confidence).toBeGreaterThan(0);
      // with all tokens kept the answer is as probable as it was: its geometric mean to the number of its tokens
      expect(guidance.consistency).toBeCloseTo(guidance.confidence ** guidance.ids.length, 4);
      const few = await sglGuidance(model, image, question, { keepRatio: 0.05 });
      expect(few.importance).toEqual(guidance.importance);
      expect(few.consistency).not.toBeCloseTo(guidance.consistency, 6);
      const tokens = 8;
      const { visual, usage } = await model.ask(image, question, { prune: { method: 'sgl', importance: guidance.importance, tokens, layer: 1 } });
      expect(visual[0]?.tokens).toBe(guidance.importance.length);
      expect(usage.newTokens).toBeGreaterThan(0);
      await expect(sglGuidance(model, image, question, { keepRation: 1 } as never)).rejects.toThrow('keepRation');
      model.dispose();
    });
  });
});
