import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { ImageError } from '../../../layers/errors';
import { decodeImage } from '../../../lib/image/decode_node';
import { type ImageHeader, readImageHeader } from '../../../lib/image/header';
import { imagePath } from './recorded';

const FILES = [
  ...['rgb.png', 'palette_2bit.png', 'rgba16.png', 'rgb.jpg', 'progressive.jpg', 'cmyk.jpg', 'orientation_6.jpg', 'lossy.webp', 'rgba.webp'],
  ...['rgba_lossy.webp', 'animated.webp'],
].map((name) => readFileSync(imagePath(name)));

/** First bytes of other formats, behind which anything may follow. */
const OTHERS = ['GIF89a', 'BM', 'II*\0', 'MM\0*', '\0\0\0\x20ftypavif', 'RIFF....AVI ', '\x89PNG\r\n', '\xff\xd8', 'RIFF\x04\0\0\0WEBP', '', '\0'];

interface Change {
  readonly at: number;
  readonly removed: number;
  readonly inserted: Uint8Array;
}

const values = fc.oneof(
  { weight: 3, arbitrary: fc.uint8Array({ maxLength: 4 }) },
  {
    weight: 3,
    arbitrary: fc
      .constantFrom([0, 0, 0, 0], [255, 255, 255, 255], [127, 255, 255, 255], [0, 0, 255, 255], [0, 1], [255], [0])
      .map((bytes) => Uint8Array.from(bytes)),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom('\xff\xc0\x00\x11\x08\xff\xff\xff\xff', '\xff\xda', '\xff\xd9', '\0\0\0\0IEND', 'VP8X', 'VP8L', 'VP8 ')
      .map((text) => Uint8Array.from(Buffer.from(text, 'latin1'))),
  },
);

/** Mostly a value in place of another of its length, near the beginning, where sizes are declared. */
const change: fc.Arbitrary<Change> = fc
  .record({
    at: fc.oneof({ weight: 4, arbitrary: fc.nat(63) }, { weight: 2, arbitrary: fc.nat() }),
    moves: fc.nat(4),
    by: fc.nat(40),
    inserted: values,
  })
  .map(({ at, moves, by, inserted }) => ({ at, inserted, removed: moves === 0 ? by : inserted.length }));

const image: fc.Arbitrary<Buffer> = fc
  .record({
    start: fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(...FILES) },
      { weight: 1, arbitrary: fc.constantFrom(...OTHERS).map((text) => Buffer.from(text, 'latin1')) },
    ),
    changes: fc.array(change, { maxLength: 3 }),
    kept: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) }),
  })
  .map(({ start, changes, kept }) => {
    let bytes = start;
    for (const { at, removed, inserted } of changes) {
      const index = at % (bytes.length + 1);
      bytes = Buffer.concat([bytes.subarray(0, index), inserted, bytes.subarray(index + removed)]);
    }
    return bytes.subarray(0, Math.ceil(bytes.length * kept));
  });

function header(bytes: Uint8Array): ImageHeader | string {
  try {
    return readImageHeader(bytes, 'image');
  } catch (error) {
    if (error instanceof ImageError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

it('gives a size or a named error for any bytes, whatever lies in memory before and behind them', async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.property(image, fc.constantFrom(0, 255), (bytes, margin) => {
      const result = header(Uint8Array.from(bytes));
      const around = new Uint8Array(bytes.length + 128).fill(margin);
      around.set(bytes, 64);
      expect(header(around.subarray(64, 64 + bytes.length))).toEqual(result);
      seen.add(typeof result === 'string' ? (result.split(':')[0] as string) : result.format);
    }),
    { numRuns: 2500, seed: 43 },
  );
  expect([...seen].sort()).toEqual(['IMAGE_EMPTY', 'IMAGE_FORMAT', 'IMAGE_TRUNCATED', 'IMAGE_ZERO_SIDE', 'JPEG', 'PNG', 'WebP']);
});

it('never decodes more pixels than allowed, and what it decodes has the size that the header declares', async () => {
  const count = { decoded: 0, tooLarge: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(image, async (bytes) => {
      const maxPixels = 600; // the whole ones have 26 x 19 = 494
      const result = await decodeImage(bytes, { maxPixels }).catch((error: unknown) => {
        if (error instanceof ImageError) return error;
        throw error;
      });
      if (result instanceof ImageError) {
        count[result.code === 'IMAGE_TOO_LARGE' ? 'tooLarge' : 'refused']++;
        return;
      }
      const declared = header(bytes) as ImageHeader;
      expect(result.width * result.height).toBeLessThanOrEqual(maxPixels);
      expect([result.width, result.height].sort()).toEqual([declared.width, declared.height].sort());
      count.decoded++;
    }),
    { numRuns: 1200, seed: 43 },
  );
  for (const cases of Object.values(count)) expect(cases).toBeGreaterThan(10);
});

const repeat = (start: string, part: string): Buffer => Buffer.from(start + part.repeat(4e6 / part.length), 'latin1');
it.each([
  ['a JPEG of empty segments', repeat('\xff\xd8', '\xff\xe0\x00\x02')],
  ['a JPEG of fill bytes', repeat('\xff\xd8', '\xff')],
  ['a JPEG whose scan has no end', repeat('\xff\xd8\xff\xc0\x00\x11\x08\x00\x01\x00\x01\xff\xda', '\0')],
  ['a PNG of empty chunks', repeat('\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01', '\0\0\0\0tEXt\0\0\0\0')],
  ['a PNG whose chunk is longer than the file', repeat('\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR\0\0\0\x01\0\0\0\x01', '\0')],
])('%s of 4 MB is refused in time', (_what, bytes) => {
  const started = process.cpuUsage();
  expect(header(bytes)).toMatch(/^IMAGE_TRUNCATED/);
  const { user, system } = process.cpuUsage(started);
  expect((user + system) / 1e6).toBeLessThan(10); // some tenths of a second are usual
});
