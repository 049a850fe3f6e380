import * as tf from '@tensorflow/tfjs';
import { ConfigError } from '../../../layers/errors';
import { decodeImage } from '../../../lib/image/decode_node';
import { cropPixels, patchRectangle, prepareImage } from '../../../lib/image/prepare';
import { defaultPreprocessorConfig, parsePreprocessorConfig } from '../../../lib/image/preprocessor_config';
import { type Filter, resize } from '../../../lib/image/resize';
import type { RgbImage } from '../../../lib/image/types';
import { finish } from '../../../lib/pacer';
import { firstDifference, fromBase64, imageJson, imagePath, preprocessPath, readBytesOf } from './recorded';

beforeAll(async () => {
  expect(await tf.setBackend('cpu')).toBe(true);
});

function strip(width: number, height: number): RgbImage {
  return { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 31) % 256) };
}

describe('resizing equals PIL byte by byte', () => {
  const cases = imageJson<{ filter: Filter; width: number; height: number; rgb: string }[]>('resized.json');

  it.each(cases.map((each) => [`${each.filter} to ${each.width} x ${each.height}`, each] as const))(
    '%s',
    async (_, { filter, width, height, rgb }) => {
      const image = await decodeImage(imagePath('rgb.png'));
      expect(firstDifference(resize(image, { width, height }, { filter }).data, fromBase64(rgb))).toBeUndefined();
    },
  );

  it('computes in a window what the whole image has there', async () => {
    const image = await decodeImage(imagePath('rgb.png'));
    const whole = resize(image, { width: 77, height: 64 }, { filter: 'bicubic' });
    const window = { x: 13, y: 9, width: 31, height: 22 };
    const part = resize(image, { width: 77, height: 64 }, { filter: 'bicubic', window });
    const expected = Array.from({ length: window.height }, (_, y) => [
      ...whole.data.subarray(((window.y + y) * 77 + window.x) * 3, ((window.y + y) * 77 + window.x + window.width) * 3),
    ]);
    expect(firstDifference(part.data, expected.flat())).toBeUndefined();
  });
});

describe('preprocessing equals the recorded uint8 step', () => {
  const expected = readBytesOf(preprocessPath('expected.safetensors'));

  it('has all recorded cases', () => expect(expected.size).toBe(8));

  it.each([...expected.keys()])('%s', async (key) => {
    const [name, aspect, size] = key.split('.') as [string, 'crop' | 'pad', string];
    const { pixels } = finish(cropPixels(await decodeImage(preprocessPath(`${name}.png`)), defaultPreprocessorConfig(Number(size)), aspect));
    expect([pixels.height, pixels.width, 3]).toEqual(expected.get(key)!.shape);
    expect(firstDifference(pixels.data, expected.get(key)!.data)).toBeUndefined();
  });
});

describe('pixel values equal those of transformers in every float', () => {
  const cases = imageJson<{ name: string; config: unknown; written: unknown; shape: number[]; values: string }[]>('processed.json');

  it.each(cases.map((each) => [each.name, each] as const))('%s', async (_, { config, written, shape, values }) => {
    const image = await decodeImage(imagePath('rgb.png'));
    const wanted = new Float32Array(fromBase64(values).buffer);
    // What the caller gave (padding belongs to LlavaImageProcessor alone), what transformers 4 wrote, what transformers 5 writes.
    for (const json of [config, written, { processor_class: 'LlavaProcessor', image_processor: written }]) {
      const { pixelValues } = prepareImage(image, parsePreprocessorConfig(json, 'preprocessor_config.json'), { patchSize: 2 });
      expect(pixelValues.shape).toEqual([1, ...shape]);
      expect(firstDifference(await pixelValues.data(), wanted)).toBeUndefined();
      pixelValues.dispose();
    }
  });
});

describe('extreme aspect ratios', () => {
  it.each([
    [1, 60000],
    [60000, 1],
    [3, 7001],
  ])('%i x %i is prepared without building what is cut off or padded', (width, height) => {
    const before = process.cpuUsage();
    for (const aspect of ['crop', 'pad'] as const) {
      const { pixels } = finish(cropPixels(strip(width, height), defaultPreprocessorConfig(56), aspect));
      expect([pixels.width, pixels.height]).toEqual([56, 56]);
    }
    expect(process.cpuUsage(before).user / 1e6).toBeLessThan(5); // seconds; a square of 60000 x 60000 would take minutes
  });

  it('a padded strip is the mean colour beside it', () => {
    const { pixels } = finish(cropPixels(strip(1, 60000), defaultPreprocessorConfig(28), 'pad'));
    expect([...pixels.data.subarray(0, 3)]).toEqual([122, 116, 104]); // CLIP's mean as bytes
  });
});

describe('where patches lie on the original', () => {
  const config = defaultPreprocessorConfig(28);
  const places = (width: number, height: number, aspect: 'crop' | 'pad', ...patches: number[]): number[][] => {
    const prepared = prepareImage(strip(width, height), config, { patchSize: 7, aspect });
    try {
      expect(prepared.grid).toEqual({ rows: 4, columns: 4 });
      return patches.map((index) => {
        const { x, y, width: w, height: h } = patchRectangle(prepared, 0, index);
        return [x, y, w, h];
      });
    } finally {
      prepared.pixelValues.dispose();
    }
  };

  it('a cropped wide image: the middle square', () => {
    expect(places(112, 56, 'crop', 0, 5, 15)).toEqual([
      [28, 0, 14, 14],
      [42, 14, 14, 14],
      [70, 42, 14, 14],
    ]);
  });

  it('a padded wide image: patches of padding have no height, the others are cut at the border', () => {
    expect(places(112, 56, 'pad', 0, 4, 8, 12)).toEqual([
      [0, 0, 28, 0],
      [0, 0, 28, 28],
      [0, 28, 28, 28],
      [0, 56, 28, 0],
    ]);
    expect(places(112, 84, 'pad', 0)).toEqual([[0, 0, 28, 14]]);
  });

  it('refuses patches that are not there, and images without geometry', () => {
    const prepared = prepareImage(strip(8, 8), config, { patchSize: 7 });
    expect(() => patchRectangle(prepared, 0, 16)).toThrow(/patch 16 of crop 0.*4 x 4/);
    expect(() => patchRectangle({ ...prepared, geometry: undefined }, 0, 0)).toThrow(/no crops with a known place/);
    prepared.pixelValues.dispose();
  });
});

describe('preprocessor_config.json', () => {
  const problem = (json: unknown): string => {
    try {
      parsePreprocessorConfig(json, 'preprocessor_config.json');
    } catch (error) {
      if (error instanceof ConfigError) return `${error.code}: ${error.message}`;
      throw error;
    }
    return 'accepted';
  };

  it("has transformers' defaults where it is silent", () => {
    expect(parsePreprocessorConfig({}, 'f')).toEqual({
      do_resize: true,
      size: { shortest_edge: 224 },
      resample: 'bicubic',
      do_center_crop: true,
      crop_size: { width: 224, height: 224 },
      do_rescale: true,
      rescale_factor: 1 / 255,
      do_normalize: true,
      image_mean: [0.48145466, 0.4578275, 0.40821073],
      image_std: [0.26862954, 0.26130258, 0.27577711],
      aspect: 'crop',
    });
  });

  it('pads where it says so, in any of the three ways in which it is said', () => {
    expect(parsePreprocessorConfig({ do_pad: true }, 'f').aspect).toBe('pad');
    expect(parsePreprocessorConfig({ image_aspect_ratio: 'pad' }, 'f').aspect).toBe('pad');
    expect(parsePreprocessorConfig({ do_pad: false, image_aspect_ratio: 'square' }, 'f').aspect).toBe('crop');
  });

  it('names what it does not support, with the value', () => {
    expect(problem({ size: { longest_edge: 300 } })).toMatch(/^PREPROCESSOR_CONFIG: preprocessor_config.json .*size: must be .*longest_edge/);
    expect(problem({ resample: 1 })).toMatch(/resample: must be 2 \(bilinear\) or 3 \(bicubic\), and is 1/);
    expect(problem({ image_aspect_ratio: 'anyres' })).toMatch(/"anyres" is not supported/);
    expect(problem({ image_std: [0, 1, 1] })).toMatch(/image_std: every value must be above 0, and is \[0,1,1\]/);
    expect(problem({ crop_size: 0 })).toMatch(/crop_size: must be/);
    expect(problem({ image_processor_type: 'Qwen2VLImageProcessor' })).toMatch(
      /^PREPROCESSOR_UNSUPPORTED: .*Qwen2VLImageProcessor.*CLIPImageProcessor/,
    );
    expect(problem([])).toMatch(/^PREPROCESSOR_CONFIG/);
    expect(problem({ image_processor_type: 'CLIPImageProcessorFast' })).toBe('accepted');
  });
});

it('refuses a strip that would fill the memory when it is resized by its short side', () => {
  const config = { ...defaultPreprocessorConfig(336), do_center_crop: false };
  const prepare = () => prepareImage(strip(1, 20000), config, { patchSize: 14 });
  expect(prepare).toThrow(expect.objectContaining({ code: 'IMAGE_TOO_LARGE', message: expect.stringMatching(/1 x 20000 .* 336 x 6720000/) }));
});

it('leaves nothing behind but the pixel values', () => {
  const before = tf.memory().numTensors;
  const prepared = prepareImage(strip(30, 20), defaultPreprocessorConfig(28), { patchSize: 14 });
  expect(tf.memory().numTensors).toBe(before + 1);
  prepared.pixelValues.dispose();
});
