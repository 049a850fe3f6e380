import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { decodeImage } from '../../../lib/image/decode_node';
import { firstDifference, fromBase64, imageErrorOf, imageJson, imagePath, pngChunks, withChecksum } from './recorded';

const decoded = imageJson<Record<string, { width: number; height: number; rgb: string }>>('decoded.json');
const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');

/** rgb.png with other sides in its header, checksum right. */
function forgedPng(width: number, height: number): Buffer {
  const chunks = pngChunks(readFileSync(imagePath('rgb.png'))).map(([type, chunk]) => {
    if (type !== 'IHDR') return chunk;
    const header = Buffer.from(chunk);
    header.writeUInt32BE(width, 8);
    header.writeUInt32BE(height, 12);
    return withChecksum(header);
  });
  return Buffer.concat([SIGNATURE, ...chunks]);
}

describe('decoding equals PIL byte by byte', () => {
  it.each(Object.keys(decoded))('%s', async (name) => {
    const expected = decoded[name]!;
    const image = await decodeImage(imagePath(name));
    expect([image.width, image.height]).toEqual([expected.width, expected.height]);
    expect(firstDifference(image.data, fromBase64(expected.rgb))).toBeUndefined();
  });

  it('ignores a colour profile, as PIL does', async () => {
    const tagged = await sharp(imagePath('rgb.png')).withIccProfile('p3').png().toBuffer();
    const chunks = pngChunks(tagged);
    expect(chunks.map(([type]) => type)).toContain('iCCP');
    const bare = Buffer.concat([SIGNATURE, ...chunks.filter(([type]) => type !== 'iCCP').map(([, chunk]) => chunk)]);
    expect(firstDifference((await decodeImage(tagged)).data, (await decodeImage(bare)).data)).toBeUndefined();
  });
});

describe('inputs', () => {
  const expected = fromBase64(decoded['rgb.png']!.rgb);
  const bytes = readFileSync(imagePath('rgb.png'));

  it.each([
    ['a file URL', pathToFileURL(imagePath('rgb.png'))],
    ['a Buffer', bytes],
    ['a Uint8Array inside a larger buffer', new Uint8Array(Buffer.concat([Buffer.alloc(3), bytes, Buffer.alloc(5)])).subarray(3, 3 + bytes.length)],
    ['an ArrayBuffer', new Uint8Array(bytes).buffer],
    ['a Blob', new Blob([bytes])],
    ['a data URL', `data:image/png;base64,${bytes.toString('base64')}`],
    ['an RgbImage', { width: decoded['rgb.png']!.width, height: decoded['rgb.png']!.height, data: expected }],
  ])('takes %s', async (_, input) => {
    expect(firstDifference((await decodeImage(input)).data, expected)).toBeUndefined();
  });

  it('takes an http address, and names the status when the server has no such file', async () => {
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/rgb.png' ? 200 : 404;
      response.end(request.url === '/rgb.png' ? bytes : 'no');
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    try {
      const root = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      expect(firstDifference((await decodeImage(`${root}/rgb.png`)).data, expected)).toBeUndefined();
      expect(await imageErrorOf(decodeImage(new URL(`${root}/other.png`)))).toMatch(/IMAGE_NOT_FOUND.*other\.png.*404/);
    } finally {
      server.close();
    }
  });

  it('leaves a server that sends without end, and names an answer that breaks off', async () => {
    const chunk = Buffer.alloc(2 ** 20);
    const server = createServer((request, response) => {
      if (request.url === '/broken.png') {
        response.writeHead(200, { 'Content-Length': bytes.length }).write(bytes.subarray(0, 50));
        setTimeout(() => response.destroy(), 20);
        return;
      }
      const more = (): void => {
        while (!response.destroyed && response.write(chunk));
        if (!response.destroyed) response.once('drain', more);
      };
      more();
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    try {
      const root = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      expect(await imageErrorOf(decodeImage(`${root}/endless.png`))).toMatch(/^IMAGE_TOO_LARGE: .*endless\.png has more than 268435456 bytes/);
      expect(await imageErrorOf(decodeImage(`${root}/broken.png`))).toMatch(/^IMAGE_NOT_FOUND: .*broken\.png.*broke off/);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it('stops before reading when it is aborted', async () => {
    await expect(decodeImage(imagePath('rgb.png'), { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  });
});

describe('what is no image is refused by name', () => {
  const directory = mkdtempSync(join(tmpdir(), 'vispruner-images-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  it('an empty file', async () => {
    const path = join(directory, 'empty.png');
    writeFileSync(path, '');
    expect(await imageErrorOf(decodeImage(path))).toMatch(/^IMAGE_EMPTY: .*empty\.png is empty/);
  });

  it('a path that does not exist, and a directory', async () => {
    expect(await imageErrorOf(decodeImage(join(directory, 'none.png')))).toMatch(/^IMAGE_NOT_FOUND: .*none\.png.*no such file/);
    expect(await imageErrorOf(decodeImage(directory))).toMatch(/^IMAGE_NOT_FOUND: .*directory/);
  });

  it('formats that are not read, by their names', async () => {
    const rgb = sharp(imagePath('rgb.png'));
    const cases: [Buffer, RegExp][] = [
      [await rgb.clone().gif().toBuffer(), /a GIF/],
      [await rgb.clone().tiff().toBuffer(), /a TIFF/],
      [await rgb.clone().avif().toBuffer(), /an AVIF/],
      [Buffer.from('<!DOCTYPE html><html><body>404</body></html>'), /an HTML page/],
      [Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), /an SVG/],
      [Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n'), /git-LFS pointer.*git lfs pull/],
      [Buffer.from([1, 2, 3, 4]), /unknown format.*01 02 03 04/],
    ];
    for (const [bytes, message] of cases) {
      const error = await imageErrorOf(decodeImage(bytes));
      expect(error).toMatch(/^IMAGE_FORMAT: .*JPEG, PNG and WebP are read/);
      expect(error).toMatch(message);
    }
  });

  it.each(['rgb.jpg', 'progressive.jpg', 'cmyk.jpg', 'rgb.png', 'rgba16.png', 'rgba.webp', 'lossy.webp'])(
    '%s cut anywhere is truncated, never half an image',
    async (name) => {
      const whole = readFileSync(imagePath(name));
      for (const share of [0.05, 0.3, 0.6, 0.9, 1 - 1 / whole.length]) {
        const part = whole.subarray(0, Math.floor(whole.length * share));
        if (part.length < 12) continue; // too short to tell a WebP
        expect(await imageErrorOf(decodeImage(part))).toMatch(new RegExp(`^IMAGE_TRUNCATED: .*ends after ${part.length} bytes`));
      }
    },
  );

  it('damage inside a complete file', async () => {
    const broken = Buffer.from(readFileSync(imagePath('rgb16.png')));
    broken.fill(0x55, 60, 400);
    expect(await imageErrorOf(decodeImage(broken))).toMatch(/^IMAGE_DAMAGED: .*PNG/);
  });

  it('a side of zero', async () => {
    expect(await imageErrorOf(decodeImage(forgedPng(0, 19)))).toMatch(/^IMAGE_ZERO_SIDE: .*0 x 19/);
    expect(await imageErrorOf(decodeImage({ width: 3, height: 0, data: new Uint8Array(0) }))).toMatch(/^IMAGE_ZERO_SIDE/);
  });

  it('a decompression bomb, by the size that it declares, before anything is decoded', async () => {
    const before = process.memoryUsage().rss;
    expect(await imageErrorOf(decodeImage(forgedPng(60000, 60000)))).toMatch(
      /^IMAGE_TOO_LARGE: .*60000 x 60000 = 3600000000 pixels, over the limit of 268402689/,
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(100e6);
  });

  it('more pixels than the caller allows', async () => {
    expect(await imageErrorOf(decodeImage(imagePath('lossy.webp'), { maxPixels: 400 }))).toMatch(/^IMAGE_TOO_LARGE: .*26 x 19 = 494/);
    await expect(decodeImage(imagePath('rgb.jpg'), { maxPixels: 494 })).resolves.toMatchObject({ width: 26 });
  });

  it('RgbImages whose data do not fit their sides, with what they look like', async () => {
    expect(await imageErrorOf(decodeImage({ width: 4, height: 3, data: new Uint8Array(48) }))).toMatch(
      /^IMAGE_DATA: .*4 x 3 .*36.*48 \(that is RGBA/,
    );
    expect(await imageErrorOf(decodeImage({ width: 4, height: 3, data: new Uint8Array(12) }))).toMatch(/^IMAGE_DATA: .*grey/);
    const floats = { width: 1, height: 1, data: new Float32Array(3) as unknown as Uint8Array };
    expect(await imageErrorOf(decodeImage(floats))).toMatch(/^IMAGE_DATA: .*Uint8Array/);
    expect(await imageErrorOf(decodeImage(7 as unknown as string))).toMatch(/^IMAGE_DATA: .*number/);
  });
});
