import { readFileSync } from 'node:fs';
import sharp from 'sharp';
import { decodeImage } from '../../../lib/image/decode_browser';
import { firstDifference, fromBase64, imageErrorOf, imageJson, imagePath } from './recorded';

/** What a page offers, with sharp behind it: enough to test our side of it. The canvas's own rounding is a browser's affair. */
const closed: string[] = [];

beforeAll(() => {
  const createImageBitmap = async (blob: Blob): Promise<object> => {
    const { data, info } = await sharp(Buffer.from(await blob.arrayBuffer()))
      .autoOrient()
      .ensureAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data, close: () => closed.push(blob.type) };
  };
  class OffscreenCanvas {
    private drawn = new Uint8ClampedArray(0);
    getContext(): object {
      return {
        drawImage: (bitmap: { data: Uint8Array }) => {
          this.drawn = new Uint8ClampedArray(bitmap.data);
        },
        getImageData: () => ({ data: this.drawn }),
      };
    }
  }
  Object.assign(globalThis, { createImageBitmap, OffscreenCanvas });
});

afterAll(() => {
  Reflect.deleteProperty(globalThis, 'createImageBitmap');
  Reflect.deleteProperty(globalThis, 'OffscreenCanvas');
});

const decoded = imageJson<Record<string, { width: number; height: number; rgb: string }>>('decoded.json');

it.each(['rgb.png', 'orientation_6.jpg', 'grey_alpha.png', 'lossy.webp'])('%s comes out as RGB, and its bitmap is closed', async (name) => {
  const before = closed.length;
  const image = await decodeImage(new Blob([readFileSync(imagePath(name))]));
  expect([image.width, image.height]).toEqual([decoded[name]!.width, decoded[name]!.height]);
  expect(firstDifference(image.data, fromBase64(decoded[name]!.rgb))).toBeUndefined();
  expect(closed.length).toBe(before + 1);
});

it('refuses what browsers draw without a word: a truncated file', async () => {
  const part = readFileSync(imagePath('rgb.jpg')).subarray(0, 900);
  expect(await imageErrorOf(decodeImage(part))).toMatch(/^IMAGE_TRUNCATED/);
});

it('names a damaged file, an unknown format, an empty one, one too large', async () => {
  const broken = Buffer.from(readFileSync(imagePath('rgb16.png')));
  broken.fill(0x55, 60, 400);
  expect(await imageErrorOf(decodeImage(broken))).toMatch(/^IMAGE_DAMAGED/);
  expect(await imageErrorOf(decodeImage(Buffer.from('GIF89a')))).toMatch(/^IMAGE_FORMAT: .*GIF/);
  expect(await imageErrorOf(decodeImage(new ArrayBuffer(0)))).toMatch(/^IMAGE_EMPTY/);
  expect(await imageErrorOf(decodeImage(readFileSync(imagePath('rgb.png')), { maxPixels: 10 }))).toMatch(/^IMAGE_TOO_LARGE/);
  expect(await imageErrorOf(decodeImage(7 as unknown as string))).toMatch(/^IMAGE_DATA: .*number/);
});
