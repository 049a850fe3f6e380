import * as tf from '@tensorflow/tfjs';
import { decodeImage } from '../../../lib/image/decode_node';
import { drawKept, paintKept } from '../../../lib/image/overlay';
import { prepareImage } from '../../../lib/image/prepare';
import { defaultPreprocessorConfig } from '../../../lib/image/preprocessor_config';
import type { PreparedImage, RgbImage } from '../../../lib/image/types';
import { imageErrorOf } from './recorded';

/** 112 x 56 pixels of one colour that is far from grey. */
const plain: RgbImage = { width: 112, height: 56, data: Uint8Array.from({ length: 112 * 56 * 3 }, (_, i) => [200, 40, 90][i % 3]!) };

const pixel = (image: RgbImage, x: number, y: number): number[] => [...image.data.subarray((y * image.width + x) * 3, (y * image.width + x + 1) * 3)];
const isColour = (image: RgbImage, x: number, y: number): boolean => pixel(image, x, y).join() === '200,40,90';
const isDimmed = (image: RgbImage, x: number, y: number): boolean => {
  const [red, green, blue] = pixel(image, x, y) as [number, number, number];
  return red === green && green === blue && red < 60;
};

async function prepared<T>(aspect: 'crop' | 'pad', use: (image: PreparedImage) => Promise<T>): Promise<T> {
  const image = prepareImage(plain, defaultPreprocessorConfig(28), { patchSize: 7, aspect });
  try {
    return await use(image);
  } finally {
    image.pixelValues.dispose();
  }
}

beforeAll(async () => {
  expect(await tf.setBackend('cpu')).toBe(true);
});

it('shows a kept patch where it lies on the original, and the rest dark and grey, in a picture large enough to read', async () => {
  const png = await prepared('crop', (image) => drawKept(plain, image, { crop: 0, kept: Int32Array.of(5) }));
  const picture = await decodeImage(png);
  expect(Math.min(picture.width, picture.height)).toBeGreaterThanOrEqual(512);
  const scale = picture.width / 112;
  expect(picture.height).toBe(56 * scale);
  // Patch 5 (row 1, column 1) of the middle square: x 42 to 56, y 14 to 28.
  expect(isColour(picture, 49 * scale, 21 * scale)).toBe(true);
  for (const [x, y] of [
    [41, 21],
    [57, 21],
    [49, 13],
    [49, 29],
    [0, 0],
    [111, 55],
  ] as const) {
    expect([x, y, isDimmed(picture, x * scale, y * scale)]).toEqual([x, y, true]);
  }
  const frame = pixel(picture, 42 * scale, 14 * scale);
  expect(isColour(picture, 42 * scale, 14 * scale) || frame[0] === frame[1]).toBe(false);
});

it('leaves the picture dark when only padding was kept, and bright when everything was', async () => {
  const options = { scale: 1 };
  const dark = await decodeImage(await prepared('pad', (image) => drawKept(plain, image, { crop: 0, kept: Int32Array.of(0, 3, 12) }, options)));
  const all = Int32Array.from({ length: 16 }, (_, i) => i);
  const bright = await decodeImage(await prepared('pad', (image) => drawKept(plain, image, { crop: 0, kept: all }, options)));
  for (let y = 0; y < 56; y++) {
    for (let x = 0; x < 112; x++) {
      if (!isDimmed(dark, x, y)) throw new Error(`${x}, ${y} is not dark`);
      if (isDimmed(bright, x, y)) throw new Error(`${x}, ${y} is not bright`);
    }
  }
});

it('draws each crop in its own place', async () => {
  await prepared('crop', async (one) => {
    const [geometry] = one.geometry!;
    const moved = { ...geometry!, offsetX: 0, offsetY: 0, scaleX: 1, scaleY: 1 };
    const two = { ...one, geometry: [geometry!, moved] };
    const second = await decodeImage(await drawKept(plain, two, { crop: 1, kept: Int32Array.of(0) }, { scale: 1 }));
    expect([isColour(second, 3, 3), isDimmed(second, 8, 3), isDimmed(second, 49, 21)]).toEqual([true, true, true]);
  });
});

it('refuses another image than the one prepared, a crop that is not there, and a scale that is no whole number', async () => {
  const other = { width: 3, height: 3, data: new Uint8Array(27) };
  const kept = { crop: 0, kept: Int32Array.of(0) };
  expect(await imageErrorOf(prepared('crop', (image) => drawKept(other, image, kept)))).toMatch(/^IMAGE_GEOMETRY: .*3 x 3.*112 x 56/);
  expect(await imageErrorOf(prepared('crop', (image) => drawKept(plain, image, { ...kept, crop: 1 })))).toMatch(/^IMAGE_GEOMETRY: .*crop 1/);
  expect(() => paintKept(plain, [], 1.5)).toThrow(/"scale" is 1\.5/);
});
