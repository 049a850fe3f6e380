import type * as tf from '@tensorflow/tfjs';
import { attentionShift, loadModel, ShiftAccumulator, scenePictures, type VisionLanguageModel } from '../../../lib';
import { readSums, type ShiftSums } from '../../../lib/analysis/shift';
import type { VisionLanguageConfig } from '../../../lib/config';
import type { TokenModel } from '../../../lib/token_model';
import type { TokenRequest } from '../../../lib/token_request';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { disposeImages, fixtureImages, fixtureModel } from '../../support/fixture_model';

const row = (...values: number[]) => Float32Array.from(values);
const close = (found: Float32Array, wanted: readonly number[], digits = 6) => {
  expect(found).toHaveLength(wanted.length);
  for (const [i, value] of wanted.entries()) expect(found[i]).toBeCloseTo(value, digits);
};

describe('one sample by hand: two visual tokens, a text token and the last', () => {
  // columns are the visual tokens; rows: 0.5 0 | 0.3 0.4 | 0.2 0.1 | 0.05 0.15
  const sums = { last: row(0.05, 0.15), text: row(0.2, 0.1), image: row(0.8, 0.4) };

  it('divides columns by the rows that can see them, and text by a row more than it sums', () => {
    const accumulator = new ShiftAccumulator(2, 1);
    accumulator.add(sums, 2);
    const { last, text, image, full, selected } = accumulator.result(7);
    close(last.values, [0.05, 0.15]);
    close(text.values, [0.2 / 2, 0.1 / 2]);
    close(image.values, [0.8 / 2, 0.4 / 1]);
    close(full.values, [1.05 / 4, 0.65 / 3]);
    close(selected.values, [0, 1]);
    expect(last.mass).toBeCloseTo(0.2, 6);
    expect(last.quartiles).toEqual([0, expect.closeTo(0.25, 6), 0, expect.closeTo(0.75, 6)]);
  });

  it('is averaged over samples', () => {
    const accumulator = new ShiftAccumulator(2, 1);
    accumulator.add(sums, 2);
    accumulator.add({ last: row(0.15, 0.05), text: row(0, 0), image: row(0, 0) }, 1);
    const { last, selected, image } = accumulator.result(0);
    close(last.values, [0.1, 0.1]);
    close(selected.values, [0.5, 0.5]);
    close(image.values, [0.2, 0.2]);
  });
});

it('attention that is the same wherever it can be seen has no shift, in any of the four', () => {
  const [tokens, textTokens, each] = [10, 4, 0.01];
  const accumulator = new ShiftAccumulator(tokens, 3);
  accumulator.add(
    {
      last: new Float32Array(tokens).fill(each),
      text: new Float32Array(tokens).fill((textTokens - 1) * each),
      image: Float32Array.from({ length: tokens }, (_, j) => (tokens - j) * each), // token j is seen by itself and those behind it
    },
    textTokens,
  );
  const { last, text, image, full } = accumulator.result(0);
  for (const flat of [last, text, image, full]) close(flat.values, new Array(tokens).fill(flat.values[0]));
  expect(full.values[0]).toBeCloseTo(each, 6);
});

describe.each(BACKENDS)('sums over rows, on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('are those of the whole maps, of every block, and nothing is left behind', async () => {
    const model = fixtureModel('tiny-llava-hf', backend);
    const images = fixtureImages('tiny-llava-hf', 1);
    const request = { inputIds: [1, 5, (model.config as VisionLanguageConfig).image_token_index, 7, 8, 9], images };
    const { maps, length } = await wholeMaps(model, request);
    const { sums, textTokens } = await withoutLeaks(() => readSums(model, request));
    expect({ blocks: sums.length, textTokens, length }).toEqual({ blocks: maps.length, textTokens: 3, length: 2 + 16 + 3 });
    for (const [k, map] of maps.entries()) {
      const columns = (from: number, to: number) =>
        Array.from({ length: 16 }, (_, key) => {
          let sum = 0;
          for (let query = from; query < to; query++) sum += map[query * length + 2 + key] as number;
          return sum;
        });
      const { last, text, image } = sums[k] as ShiftSums;
      close(last, columns(length - 1, length), 5);
      close(text, columns(18, length - 1), 5);
      close(image, columns(2, 18), 5);
    }
    disposeImages(images);
    model.dispose();
  });
});

describe('of the shipped model', () => {
  let model: VisionLanguageModel;
  beforeAll(async () => {
    await useBackend('wasm');
    model = await loadModel('weights/vispruner-tiny', { backend: 'wasm' });
  });
  afterAll(() => model.dispose());

  it('every question is a sample, no row gives more than it has, so many are selected as were asked for', async () => {
    const pictures = [...scenePictures(2)];
    const shift = await withoutLeaks(() => attentionShift(model, pictures, { tokens: 10 }));
    expect(shift).toMatchObject({
      visualTokens: 256,
      selectedTokens: 10,
      samples: pictures.reduce((sum, { questions }) => sum + questions.length, 0),
    });
    expect(shift.blocks.map(({ block }) => block)).toEqual([0, 1, 2, 3]);
    for (const { last, text, selected } of shift.blocks) {
      for (const { mass } of [last, text]) expect(mass).toBeGreaterThan(0);
      for (const { mass } of [last, text]) expect(mass).toBeLessThan(1);
      expect(selected.mass).toBeCloseTo(10, 4);
    }
    expect(shift.encoder.mass).toBeLessThanOrEqual(1);
  });

  it('no picture, and a picture without a question, are refused', async () => {
    const [picture] = scenePictures(1);
    await expect(attentionShift(model, [])).rejects.toMatchObject({ code: 'NOTHING_ANALYSED' });
    await expect(attentionShift(model, [{ ...picture!, questions: [] }])).rejects.toMatchObject({ code: 'NOTHING_ANALYSED' });
    await expect(attentionShift(model, scenePictures(1), { tokens: 257 })).rejects.toMatchObject({ code: 'BAD_OPTION' });
  });

  it('stops when it is told to, and leaves nothing behind', async () => {
    const controller = new AbortController();
    const progress = () => controller.abort(new Error('enough'));
    const run = () => attentionShift(model, scenePictures(2), { signal: controller.signal, progress }).catch((error: Error) => error.message);
    await expect(withoutLeaks(run)).resolves.toBe('enough');
  });
});

/** Head means of all blocks' whole maps, [S, S] each. */
async function wholeMaps(model: TokenModel, request: TokenRequest): Promise<{ maps: Float64Array[]; length: number }> {
  const maps: Float64Array[] = [];
  const tap = (name: string, value: tf.Tensor) => {
    if (!/language_model.*#probabilities$/.test(name)) return;
    const [heads, length] = value.shape as [number, number, number];
    const all = value.dataSync();
    const mean = (i: number) => Array.from({ length: heads }, (_, head) => all[head * length * length + i] as number).reduce((a, b) => a + b) / heads;
    maps.push(Float64Array.from({ length: length * length }, (_, i) => mean(i)));
  };
  const { logits } = await model.forward(request, { tap });
  const length = logits.shape[0];
  logits.dispose();
  return { maps, length };
}
