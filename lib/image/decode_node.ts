import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { ImageError } from '../../layers/errors';
import { abortable, Pacer, paced, type Steps } from '../pacer';
import { checkPixelLimit, readImageHeader } from './header';
import { checkRgbImage, fetchBytes, isRgbImage, maxPixelsOf, shortName } from './source';
import type { DecodeOptions, ImageInput, RgbImage } from './types';

/**
 * Decodes a JPEG, PNG or WebP to 8-bit RGB in Node.
 *
 * The result is what PIL's `ImageOps.exif_transpose` and `convert('RGB')` give, byte by byte: the EXIF orientation is applied; grey is repeated; a palette is
 * looked up; alpha is dropped, not blended (what lies under a transparent pixel comes to light); CMYK becomes RGB by plain arithmetic; colour profiles are
 * ignored; 16-bit channels keep their high byte; of an animation the first frame is taken.
 *
 * Differs from PIL: 16-bit grey keeps its high byte, where PIL clips everything over 255 to white.
 *
 * @throws {ImageError} `IMAGE_NOT_FOUND`, `IMAGE_EMPTY`, `IMAGE_FORMAT`, `IMAGE_TRUNCATED`, `IMAGE_ZERO_SIDE`, `IMAGE_TOO_LARGE` (by the declared size, before
 * anything is decoded), `IMAGE_DAMAGED`, `IMAGE_DATA`, `MAX_PIXELS_INVALID`; ConfigError `OPTION_UNKNOWN`
 */
export async function decodeImage(input: ImageInput, options: DecodeOptions = {}): Promise<RgbImage> {
  const maxPixels = maxPixelsOf(options);
  const { signal } = options;
  signal?.throwIfAborted();
  if (isRgbImage(input)) return checkRgbImage(input);
  const { bytes, name } = await readInput(input, options);
  const header = readImageHeader(bytes, name);
  checkPixelLimit(header, maxPixels, name);
  try {
    const file = sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: maxPixels }).autoOrient();
    const { space } = await abortable(sharp(bytes, { limitInputPixels: maxPixels }).metadata(), signal);
    if (space === 'cmyk') {
      // Working in CMYK keeps libvips from converting by a press profile.
      const inks = file.pipelineColourspace('cmyk').toColourspace('cmyk').raw({ depth: 'uchar' });
      const { data, info } = await abortable(inks.toBuffer({ resolveWithObject: true }), signal);
      return { width: info.width, height: info.height, data: await paced(cmykToRgb(data), new Pacer(signal).pause) };
    }
    const pixels = file.removeAlpha().toColourspace('srgb').raw({ depth: 'uchar' });
    const { data, info } = await abortable(pixels.toBuffer({ resolveWithObject: true }), signal);
    return checkRgbImage({ width: info.width, height: info.height, data: new Uint8Array(data.buffer, data.byteOffset, data.length) });
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof ImageError) throw cause;
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);
    throw new ImageError('IMAGE_DAMAGED', `${name} is a damaged ${header.format} (${reason}). Save or download it again.`, { cause });
  }
}

const READ_FAILURES: Record<string, string> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a directory',
  EACCES: 'its permissions forbid it',
};

async function readInput(input: Exclude<ImageInput, RgbImage>, options: DecodeOptions): Promise<{ bytes: Uint8Array; name: string }> {
  if (input instanceof Uint8Array) return { bytes: input, name: 'The image' };
  if (input instanceof ArrayBuffer) return { bytes: new Uint8Array(input), name: 'The image' };
  if (input instanceof Blob) return { bytes: new Uint8Array(await input.arrayBuffer()), name: 'The image' };
  if (input instanceof URL && input.protocol !== 'file:') return { bytes: await fetchBytes(input, options), name: shortName(input) };
  if (typeof input !== 'string' && !(input instanceof URL)) {
    throw new ImageError(
      'IMAGE_DATA',
      `An image can't be ${input === null ? 'null' : typeof input}. Give a path, a URL, the bytes of a file, or {width, height, data}.`,
    );
  }
  if (typeof input === 'string' && /^(https?|data):/i.test(input)) return { bytes: await fetchBytes(input, options), name: shortName(input) };
  const path = input instanceof URL ? fileURLToPath(input) : input;
  try {
    return { bytes: await readFile(path, { signal: options.signal }), name: path };
  } catch (cause) {
    options.signal?.throwIfAborted();
    const why = READ_FAILURES[(cause as NodeJS.ErrnoException).code ?? ''] ?? String(cause);
    throw new ImageError('IMAGE_NOT_FOUND', `${path} can't be read as an image: ${why}. Give the path of a JPEG, PNG or WebP file.`, { cause });
  }
}

/** Pixels converted between two pauses. */
const STEP = 2 ** 20;

/** [H * W * 4] ink amounts -> [H * W * 3], by PIL's formula: (255 - key) - ink * (255 - key) / 255, rounded. */
function* cmykToRgb(inks: Uint8Array): Steps<Uint8Array> {
  const pixels = inks.length / 4;
  const data = new Uint8Array(pixels * 3);
  for (let i = 0; i < pixels; i++) {
    if (i % STEP === 0) yield;
    const light = 255 - (inks[4 * i + 3] as number);
    for (let c = 0; c < 3; c++) {
      const product = (inks[4 * i + c] as number) * light + 128;
      data[3 * i + c] = light - (((product >> 8) + product) >> 8); // (p + p / 256) / 256: division by 255, rounded
    }
  }
  return data;
}
