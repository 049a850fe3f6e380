import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import * as tf from '@tensorflow/tfjs';
import sharp from 'sharp';
import { drawKept, type ImageInput, type PreparedImage, type VisionLanguageModel } from '../../lib/index';
import { fileOf, type Refusal, refuses, useFolder, useShippedModel, works } from './refusal';

const FIXTURES = join(__dirname, '../fixtures/images');
const QUESTION = 'what is it?';
/** Side of an image of the shipped model. */
const SIDE = 128;

let model: VisionLanguageModel;

useFolder();
useShippedModel((loaded) => {
  model = loaded;
});

function fixture(name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(FIXTURES, name)));
}

/** A file with these bytes, asked about by its path. */
function asking(content: Uint8Array | (() => Promise<Uint8Array>), name: string): () => Promise<unknown> {
  return async () => model.ask(await fileOf(typeof content === 'function' ? await content() : content, name), QUESTION);
}

function row(kind: Refusal['kind'], what: string, act: () => Promise<unknown>, code: Refusal['code'], ...tells: (string | RegExp)[]): Refusal {
  return { kind, what, act, name: 'ImageError', code, tells };
}

/** A file whose format is read but which declares another size: all else of it stays. */
function declaring(name: string, change: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const bytes = Uint8Array.from(fixture(name));
  change(new DataView(bytes.buffer), bytes);
  return bytes;
}

function pngOf(width: number, height: number): Uint8Array {
  return declaring('rgb.png', (view, bytes) => {
    view.setUint32(16, width);
    view.setUint32(20, height);
    view.setUint32(29, crc32(bytes.subarray(12, 29))); // of IHDR: a decoder that looks finds nothing wrong
  });
}

function jpegOf(width: number, height: number): Uint8Array {
  return declaring('rgb.jpg', (view, bytes) => {
    const frame = bytes.findIndex((byte, i) => byte === 0xff && bytes[i + 1] === 0xc0);
    view.setUint16(frame + 5, height);
    view.setUint16(frame + 7, width);
  });
}

/** Of the extended form (VP8X), which has three bytes a side. */
function webpOf(name: string, chunk: string, write: (view: DataView, body: number) => void): Uint8Array {
  return declaring(name, (view, bytes) => {
    const at = Buffer.from(bytes).indexOf(chunk);
    if (at < 0) throw new Error(`${name} has no ${chunk}`);
    write(view, at + 8);
  });
}

const HUGE = 60000;
const bombs: readonly [string, Uint8Array, number, number][] = [
  ['PNG', pngOf(HUGE, HUGE), HUGE, HUGE],
  ['JPEG', jpegOf(HUGE, HUGE), HUGE, HUGE],
  [
    'WebP of the extended form',
    webpOf('rgba_lossy.webp', 'VP8X', (view, body) => {
      for (const offset of [4, 7]) {
        view.setUint16(body + offset, (HUGE - 1) & 0xffff, true);
        view.setUint8(body + offset + 2, (HUGE - 1) >> 16);
      }
    }),
    HUGE,
    HUGE,
  ],
];

refuses([
  row(39, 'a file of no bytes', asking(new Uint8Array(0), 'empty.png'), 'IMAGE_EMPTY', 'empty.png', '0 bytes'),
  row(40, 'a GIF', asking(Buffer.from('GIF89a\x01\0\x01\0'), 'a.gif'), 'IMAGE_FORMAT', 'a.gif', 'a GIF', 'JPEG, PNG and WebP'),
  row(40, 'a BMP', asking(Buffer.from('BM\x46\0\0\0'), 'a.bmp'), 'IMAGE_FORMAT', 'a.bmp', 'a BMP'),
  row(
    40,
    'a TIFF',
    asking(async () => sharp(fixture('rgb.png')).tiff().toBuffer(), 'a.tiff'),
    'IMAGE_FORMAT',
    'a.tiff',
    'a TIFF',
  ),
  row(40, 'an HTML page in place of a picture', asking(Buffer.from('<!DOCTYPE html><p>404'), 'a.png'), 'IMAGE_FORMAT', 'a.png', 'an HTML page'),
  row(40, 'a git-LFS pointer', asking(Buffer.from('version https://git-lfs.github.com/spec/v1\n'), 'a.png'), 'IMAGE_FORMAT', 'git lfs pull'),
  row(40, 'bytes of no format', asking(Uint8Array.of(1, 2, 3, 4), 'a.png'), 'IMAGE_FORMAT', 'a.png', '01 02 03 04'),
  row(41, 'half a PNG', asking(fixture('rgb.png').slice(0, 90), 'half.png'), 'IMAGE_TRUNCATED', 'half.png', 'PNG', '90 bytes'),
  row(41, 'half a JPEG', asking(fixture('rgb.jpg').slice(0, 400), 'half.jpg'), 'IMAGE_TRUNCATED', 'half.jpg', 'JPEG', '400 bytes'),
  row(41, 'half a WebP', asking(fixture('lossy.webp').slice(0, 60), 'half.webp'), 'IMAGE_TRUNCATED', 'half.webp', 'WebP', '60 bytes'),
  row(
    41,
    'a PNG with damage in the middle',
    asking(
      declaring('rgb.png', (_, bytes) => bytes.fill(0xaa, 60, 80)),
      'damaged.png',
    ),
    'IMAGE_DAMAGED',
    'damaged.png',
    'PNG',
  ),
  row(42, 'a PNG of no width', asking(pngOf(0, 9), 'flat.png'), 'IMAGE_ZERO_SIDE', 'flat.png', '0 x 9'),
  row(42, 'a JPEG of no height', asking(jpegOf(9, 0), 'flat.jpg'), 'IMAGE_ZERO_SIDE', 'flat.jpg', '9 x 0'),
  row(42, 'pixels of no width', () => model.ask({ width: 0, height: 4, data: new Uint8Array(0) }, QUESTION), 'IMAGE_ZERO_SIDE', '0 x 4'),
  ...bombs.map(([format, bytes, width, height]) =>
    row(
      43,
      `a ${format} of ${width} x ${height} pixels in ${bytes.length} bytes`,
      asking(bytes, 'bomb.img'),
      'IMAGE_TOO_LARGE',
      'bomb.img',
      `${width} x ${height} = ${width * height}`,
      String(0x3fff ** 2),
    ),
  ),
  row(
    46,
    'a tensor of rank 3',
    () => askingTensor(tf.zeros([SIDE, SIDE, 3])),
    'IMAGE_TENSOR',
    `[crops, ${SIDE}, ${SIDE}, 3]`,
    `float32 of shape [${SIDE}, ${SIDE}, 3]`,
  ),
  row(46, 'integers', () => askingTensor(tf.zeros([1, SIDE, SIDE, 3], 'int32')), 'IMAGE_TENSOR', 'is int32'),
  row(46, 'channels in front', () => askingTensor(tf.zeros([1, 3, SIDE, SIDE])), 'IMAGE_TENSOR', `[1, 3, ${SIDE}, ${SIDE}]`, 'channels-first'),
  row(46, 'another side', () => askingTensor(tf.zeros([1, 64, 64, 3])), 'IMAGE_TENSOR', '[1, 64, 64, 3]'),
  row(
    46,
    'a grid of another size',
    () => askingTensor(tf.zeros([1, SIDE, SIDE, 3]), { rows: 24, columns: 24 }),
    'IMAGE_TENSOR',
    'is 24 x 24',
    '16 x 16 patches',
  ),
  row(46, 'no crop', () => askingTensor(tf.zeros([0, SIDE, SIDE, 3])), 'IMAGE_TENSOR', `[0, ${SIDE}, ${SIDE}, 3]`),
  row(
    46,
    'NaN',
    () => {
      const values = new Float32Array(SIDE * SIDE * 3);
      values[1000] = Number.NaN;
      return askingTensor(tf.tensor(values, [1, SIDE, SIDE, 3]));
    },
    'IMAGE_NAN',
    'value 1000',
    'NaN',
  ),
  row(
    46,
    'RGBA pixels',
    () => model.ask({ width: 2, height: 2, data: new Uint8Array(16) }, QUESTION),
    'IMAGE_DATA',
    '2 x 2',
    '12 bytes',
    '16',
    'RGBA',
  ),
  row(46, 'null', () => model.ask(null as unknown as ImageInput, QUESTION), 'IMAGE_DATA', 'null'),
  row(46, 'undefined, which is not the same as no image,', () => model.ask(undefined as unknown as ImageInput, QUESTION), 'IMAGE_DATA', 'undefined'),
]);

async function askingTensor(pixelValues: tf.Tensor, grid = { rows: 16, columns: 16 }): Promise<unknown> {
  const prepared: PreparedImage = {
    pixelValues: pixelValues as tf.Tensor4D,
    originalSize: { width: SIDE, height: SIDE },
    grid,
  };
  return model.ask(prepared, QUESTION).finally(() => pixelValues.dispose());
}

works(43, 'the memory of a bomb is never asked for', async () => {
  const before = process.memoryUsage().rss;
  for (const [, bytes] of bombs) await expect(model.ask(bytes, QUESTION)).rejects.toMatchObject({ code: 'IMAGE_TOO_LARGE' });
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20); // 60000 x 60000 pixels take 10 GiB
});

works(43, "a file that lies about its size meets sharp's own limit, or is damaged", async () => {
  // The container says 16 x 16; the picture in it is of 16383 x 16383 pixels.
  const inner = webpOf('lossy.webp', 'VP8 ', (view, body) => {
    view.setUint16(body + 6, 0x3fff, true);
    view.setUint16(body + 8, 0x3fff, true);
  });
  await expect(model.ask(inner, QUESTION)).rejects.toMatchObject({ name: 'ImageError' });
});

const KINDS_OF_PIXELS = [
  'grey.png',
  'grey.jpg',
  'grey_alpha.png',
  'grey16.png',
  'one_bit.png',
  'palette.png',
  'palette_2bit.png',
  'palette_transparent.png',
  'rgb16.png',
  'rgba.png',
  'rgba16.png',
  'rgba.webp',
  'cmyk.jpg',
  'progressive.jpg',
  'animated.webp',
  ...Array.from({ length: 8 }, (_, i) => `orientation_${i + 1}.jpg`),
];

works(44, 'each is answered about (their pixels are compared with PIL elsewhere)', async () => {
  for (const name of KINDS_OF_PIXELS) {
    const [prepared] = await model.prepareImages([join(FIXTURES, name)]);
    expect([name, prepared?.pixelValues.shape]).toEqual([name, [1, SIDE, SIDE, 3]]);
    prepared?.pixelValues.dispose();
  }
  expect((await model.ask(join(FIXTURES, 'cmyk.jpg'), QUESTION, { maxNewTokens: 1 })).usage.visualTokens).toBe(256);
});

works(45, 'strips of 1 x 20000 pixels either way are answered about, cut or padded, and drawn', async () => {
  for (const [width, height] of [
    [1, 20000],
    [20000, 1],
  ] as const) {
    const strip = { width, height, data: new Uint8Array(width * height * 3).fill(120) };
    for (const aspect of ['crop', 'pad'] as const) {
      const { usage } = await model.ask(strip, QUESTION, { aspect, maxNewTokens: 1, prune: { method: 'vispruner', tokens: 8 } });
      expect(usage.visualTokens).toBe(8);
    }
    const [prepared] = await model.prepareImages([strip]);
    const picture = await drawKept(strip, prepared as PreparedImage, { crop: 0, kept: Int32Array.of(0, 100) });
    const size = await sharp(picture).metadata();
    expect([size.width, size.height]).toEqual([width, height]);
    prepared?.pixelValues.dispose();
  }
});
