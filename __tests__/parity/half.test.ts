import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel, type VisionLanguageModel, type WeightDtype } from '../../lib';
import { multipliesIn } from '../../lib/backend/native/processor_node';
import type { PreparedImage } from '../../lib/image/types';
import { disposeImages, fixtureImages } from '../support/fixture_model';
import { describeNative, useNative, withoutNativeLeaks } from '../support/native';
import { channelsLast, FIXTURES, RecordedFile, readJson } from '../support/recorded';

interface HalfCase {
  readonly name: string;
  readonly dtype: WeightDtype;
  /** The image token is repeated. */
  readonly input_ids: readonly number[];
  readonly greedy: readonly number[];
  readonly margins: readonly number[];
}

/**
 * A processor that multiplies in bfloat16 rounds activations before each product too, as transformers does: errors of one size, but not the same ones, and of a few hundred
 * correlated logits their sizes differ by tens of percents. On others activations stay float32, and the error is smaller.
 */
const allowance = (dtype: WeightDtype): number => (dtype === 'bfloat16' && multipliesIn('bfloat16') ? 1.5 : 1);

const { cases } = readJson<{ cases: HalfCase[] }>('half.json');
const recorded = new RecordedFile('half.safetensors');
const SHIPPED = join(FIXTURES, '..', '..', 'weights', 'vispruner-tiny');

async function imagesOf(name: string, model: VisionLanguageModel): Promise<PreparedImage[]> {
  if (name === 'vispruner-tiny') {
    const [asked] = readJson<{ cases: { image: string }[] }>('shipped', 'reference.json').cases;
    return model.prepareImages([join(FIXTURES, '..', '..', 'examples', 'images', asked?.image as string)]);
  }
  if (name === 'gqa' || name === 'tiny-llava-hf') return fixtureImages(name, 1);
  const pixels = new RecordedFile(name.split('/')[0] as string, 'reference.safetensors').get('pixel_values');
  return [{ pixelValues: channelsLast(pixels, 0, 1), originalSize: { width: 8, height: 8 }, grid: { rows: 2, columns: 2 } }];
}

function rms(values: Float32Array, less: Float32Array = new Float32Array(values.length)): number {
  return Math.sqrt(values.reduce((sum, value, i) => sum + (value - (less[i] as number)) ** 2, 0) / values.length);
}

/**
 * The measure: how far transformers in half precision is from transformers in float32 with the same rounded weights, on the same rows. That is the
 * noise of the precision itself. This package rounds less (norms, residuals, attention and biases are float32), so it must be no farther from float32
 * than transformers is (but for `allowance`), and then it is no farther from transformers than both errors end to end.
 */
describeNative('half precision against transformers in half precision', () => {
  beforeAll(useNative);

  it.each(cases)(
    '$name in $dtype: logits within the noise of the precision; greedy ids where their margin is above it',
    async ({ name, dtype, input_ids, greedy, margins }) => {
      const half = recorded.get(`${name}.${dtype}.half`).values;
      const exact = recorded.get(`${name}.${dtype}.float32`);
      const noise = rms(half, exact.values);
      await withoutNativeLeaks(async () => {
        const model = await loadModel(name === 'vispruner-tiny' ? SHIPPED : join(FIXTURES, name), { backend: 'tensorflow', dtype });
        expect(model.dtype).toBe(dtype);
        const images = await imagesOf(name, model);
        const { logits } = await model.forward({ inputIds: input_ids, images });
        const last = tf.tidy(() => tf.slice(logits, [logits.shape[0] - (exact.shape[0] as number), 0]));
        const ours = Float32Array.from(await last.data());
        expect(rms(ours, exact.values)).toBeLessThanOrEqual(allowance(dtype) * noise);
        expect(rms(ours, half)).toBeLessThanOrEqual((1 + allowance(dtype)) * noise);
        const { ids } = await model.generate({ inputIds: input_ids, images }, { maxNewTokens: greedy.length, temperature: 0 });
        const unsure = margins.findIndex((margin) => margin <= 8 * noise); // 4 deviations of either, two logits
        const sure = unsure < 0 ? greedy.length : unsure;
        expect([...ids].slice(0, sure)).toEqual(greedy.slice(0, sure));
        tf.dispose([logits, last]);
        disposeImages(images);
        model.dispose();
      });
    },
  );
});
