import { ImageError } from '../../layers/errors';
import { checkPixelLimit, readImageHeader } from './header';
import { checkRgbImage, fetchBytes, isRgbImage, maxPixelsOf, shortName } from './source';
import type { DecodeOptions, ImageInput, RgbImage } from './types';

/**
 * Decodes a JPEG, PNG or WebP to 8-bit RGB in a page or a worker, by `createImageBitmap` and `OffscreenCanvas`.
 *
 * Differs from `decode_node`: a canvas holds colours multiplied by alpha, so what lies under fully transparent pixels is lost (black) and colours under nearly
 * transparent ones are coarse; CMYK is converted as the browser likes it. Opaque images are equal up to the browser's JPEG decoder.
 *
 * @throws {ImageError} `IMAGE_NOT_FOUND`, `IMAGE_EMPTY`, `IMAGE_FORMAT`, `IMAGE_TRUNCATED`, `IMAGE_ZERO_SIDE`, `IMAGE_TOO_LARGE` (by the declared size, before
 * anything is decoded), `IMAGE_DAMAGED`, `IMAGE_DATA`
 */
export async function decodeImage(input: ImageInput, options: DecodeOptions = {}): Promise<RgbImage> {
  const maxPixels = maxPixelsOf(options);
  options.signal?.throwIfAborted();
  if (isRgbImage(input)) return checkRgbImage(input);
  const { bytes, name } = await readInput(input, options);
  const header = readImageHeader(bytes, name);
  checkPixelLimit(header, maxPixels, name);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes as BlobPart], { type: `image/${header.format.toLowerCase()}` }), {
      imageOrientation: 'from-image',
      premultiplyAlpha: 'none',
      colorSpaceConversion: 'none',
    });
  } catch (cause) {
    throw new ImageError('IMAGE_DAMAGED', `${name} is a damaged ${header.format} (${String(cause)}). Save or download it again.`, { cause });
  }
  try {
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (context === null)
      throw new ImageError('IMAGE_TOO_LARGE', `${name}: the browser has no canvas for ${width} x ${height} pixels. Scale the image down first.`);
    context.drawImage(bitmap, 0, 0);
    const rgba = context.getImageData(0, 0, width, height).data;
    const data = new Uint8Array(width * height * 3);
    for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
      data[to] = rgba[from] as number;
      data[to + 1] = rgba[from + 1] as number;
      data[to + 2] = rgba[from + 2] as number;
    }
    return { width, height, data };
  } finally {
    bitmap.close();
  }
}

async function readInput(input: Exclude<ImageInput, RgbImage>, options: DecodeOptions): Promise<{ bytes: Uint8Array; name: string }> {
  if (input instanceof Uint8Array) return { bytes: input, name: 'The image' };
  if (input instanceof ArrayBuffer) return { bytes: new Uint8Array(input), name: 'The image' };
  if (input instanceof Blob) return { bytes: new Uint8Array(await input.arrayBuffer()), name: 'The image' };
  if (typeof input !== 'string' && !(input instanceof URL)) {
    throw new ImageError(
      'IMAGE_DATA',
      `An image can't be ${input === null ? 'null' : typeof input}. Give an address, a Blob, the bytes of a file, or {width, height, data}.`,
    );
  }
  return { bytes: await fetchBytes(input, options), name: shortName(input) };
}
