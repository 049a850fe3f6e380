import { ImageError } from '../../layers/errors';
import { checkOptionNames, type OptionNames } from '../../weights/option_names';
import { DEFAULT_MAX_PIXELS } from './header';
import type { DecodeOptions, RgbImage } from './types';

const DECODE_OPTIONS: OptionNames<DecodeOptions> = { maxPixels: true, signal: true };

/** @throws {ImageError} `MAX_PIXELS_INVALID`; ConfigError `OPTION_UNKNOWN` */
export function maxPixelsOf(options: DecodeOptions): number {
  checkOptionNames(options, DECODE_OPTIONS, 'decodeImage');
  const { maxPixels = DEFAULT_MAX_PIXELS } = options;
  if (Number.isSafeInteger(maxPixels) && maxPixels >= 1) return maxPixels;
  throw new ImageError('MAX_PIXELS_INVALID', `Option "maxPixels" is ${maxPixels}. Give a whole number of at least 1.`);
}

/** Whether an input is a decoded image already. */
export function isRgbImage(input: unknown): input is RgbImage {
  return typeof input === 'object' && input !== null && 'width' in input && 'height' in input && 'data' in input;
}

/**
 * @returns the image itself
 * @throws {ImageError} `IMAGE_ZERO_SIDE` or `IMAGE_DATA` if sides and data contradict each other
 */
export function checkRgbImage(image: RgbImage): RgbImage {
  const { width, height, data } = image;
  if (!Number.isSafeInteger(width) || !Number.isSafeInteger(height) || width < 1 || height < 1) {
    throw new ImageError('IMAGE_ZERO_SIDE', `An RgbImage is ${width} x ${height} pixels. Give sides that are whole numbers of at least 1.`);
  }
  // Uint8ClampedArray (a canvas's RGBA) is refused: four channels read as three give noise, not an error.
  if (!(data instanceof Uint8Array) && Object.prototype.toString.call(data) !== '[object Uint8Array]') {
    throw new ImageError('IMAGE_DATA', "An RgbImage's data must be a Uint8Array of red, green and blue bytes; convert other types, and RGBA, first.");
  }
  const pixels = width * height;
  if (data.length !== pixels * 3) {
    const hints = new Map([
      [pixels * 4, ' (that is RGBA: drop every fourth byte)'],
      [pixels, ' (that is grey: repeat every byte three times)'],
    ]);
    throw new ImageError(
      'IMAGE_DATA',
      `An RgbImage of ${width} x ${height} pixels needs ${pixels * 3} bytes of red, green and blue, and has ${data.length}${hints.get(data.length) ?? ''}.`,
    );
  }
  return image;
}

/** Bytes of a fetched file that are still read; the largest photographs have a tenth. */
const MAX_FETCHED = 2 ** 28;

/** @throws {ImageError} `IMAGE_NOT_FOUND` if the address does not answer with a whole file, `IMAGE_TOO_LARGE` if it does not stop */
export async function fetchBytes(address: string | URL, options: DecodeOptions): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(address, options.signal ? { signal: options.signal } : {});
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw new ImageError('IMAGE_NOT_FOUND', `${shortName(address)} can't be fetched: ${String(cause)}. Check the address and the connection.`, {
      cause,
    });
  }
  if (!response.ok)
    throw new ImageError('IMAGE_NOT_FOUND', `${shortName(address)} can't be fetched: the server answered ${response.status}. Check the address.`);
  return readBody(response, shortName(address), options);
}

async function readBody(response: Response, name: string, options: DecodeOptions): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const next = await reader?.read().catch((cause: unknown) => {
      options.signal?.throwIfAborted();
      throw new ImageError('IMAGE_NOT_FOUND', `${name} can't be fetched: the answer broke off after ${length} bytes. Check the connection.`, {
        cause,
      });
    });
    if (!next?.value) break;
    chunks.push(next.value);
    length += next.value.length;
    if (length > MAX_FETCHED) {
      await reader?.cancel().catch(() => {}); // it is refused already
      throw new ImageError('IMAGE_TOO_LARGE', `${name} has more than ${MAX_FETCHED} bytes, the limit of a fetched image. Scale it down first.`);
    }
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}

/** An address as messages show it: a data: URL can be megabytes long. */
export function shortName(address: string | URL): string {
  const text = String(address);
  return text.length > 120 ? `${text.slice(0, 100)}…` : text;
}
