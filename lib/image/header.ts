import { ImageError } from '../../layers/errors';
import type { Size } from './types';

export type ImageFormat = 'JPEG' | 'PNG' | 'WebP';

export interface ImageHeader extends Size {
  readonly format: ImageFormat;
}

/** Most pixels by default: sharp's own limit, a square of 14-bit sides. */
export const DEFAULT_MAX_PIXELS: number = 0x3fff * 0x3fff;

const SIZE_READERS: Record<ImageFormat, (view: DataView) => Size | undefined> = { JPEG: jpegSize, PNG: pngSize, WebP: webpSize };

const REMEDY = 'JPEG, PNG and WebP are read: convert it first.';

/** First bytes of what people hand over instead of an image that is read here. */
const OTHER_FORMATS: readonly (readonly [signature: string, offset: number, name: string])[] = [
  ['GIF8', 0, 'a GIF'],
  ['BM', 0, 'a BMP'],
  ['II*\0', 0, 'a TIFF'],
  ['MM\0*', 0, 'a TIFF'],
  ['ftypavif', 4, 'an AVIF'],
  ['ftyphei', 4, 'a HEIC'],
  ['ftypmif1', 4, 'a HEIF'],
  ['ftyp', 4, 'an MP4 or another ISO media file'],
  ['\0\0\x01\0', 0, 'an ICO'],
  ['\xff\x0a', 0, 'a JPEG XL'],
  ['JXL ', 4, 'a JPEG XL'],
  ['8BPS', 0, 'a Photoshop file'],
  ['%PDF', 0, 'a PDF'],
  ['version https://git-lfs', 0, 'a git-LFS pointer (fetch the file itself with "git lfs pull")'],
  ['PK\x03\x04', 0, 'a ZIP archive'],
  ['<svg', 0, 'an SVG'],
  ['<?xml', 0, 'an XML or SVG text'],
  ['<!DOCTYPE', 0, 'an HTML page'],
  ['<html', 0, 'an HTML page'],
  ['{', 0, 'a JSON text'],
];

/**
 * Reads what a JPEG, PNG or WebP file declares, without decoding it.
 *
 * @param name how messages call the image
 * @throws {ImageError} `IMAGE_EMPTY`, `IMAGE_FORMAT` (the format is named where it is known), `IMAGE_TRUNCATED`, `IMAGE_ZERO_SIDE`
 */
export function readImageHeader(bytes: Uint8Array, name: string): ImageHeader {
  if (bytes.length === 0) throw new ImageError('IMAGE_EMPTY', `${name} is empty (0 bytes). Check how it was saved or downloaded.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const format = formatOf(bytes);
  if (format === undefined) {
    const other = OTHER_FORMATS.find(([signature, offset]) => hasText(bytes, offset, signature));
    const first = Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    throw new ImageError('IMAGE_FORMAT', `${name} is ${other?.[2] ?? `of an unknown format (its first bytes are ${first})`}. ${REMEDY}`);
  }
  let size: Size | undefined;
  try {
    size = SIZE_READERS[format](view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a read past the end
  }
  if (size === undefined || !isComplete(bytes, view, format)) {
    throw new ImageError(
      'IMAGE_TRUNCATED',
      `${name} is a truncated ${format}: it ends after ${bytes.length} bytes, before its data do. Save or download it again.`,
    );
  }
  if (size.width === 0 || size.height === 0) {
    throw new ImageError(
      'IMAGE_ZERO_SIDE',
      `${name} declares ${size.width} x ${size.height} pixels. Save it again with at least one pixel each way.`,
    );
  }
  return { format, width: size.width, height: size.height };
}

/** @throws {ImageError} `IMAGE_TOO_LARGE` if an image of that size must not be decoded */
export function checkPixelLimit(size: Size, maxPixels: number, name: string): void {
  if (size.width * size.height > maxPixels) {
    throw new ImageError(
      'IMAGE_TOO_LARGE',
      `${name} declares ${size.width} x ${size.height} = ${size.width * size.height} pixels, over the limit of ${maxPixels}. ` +
        'Scale it down first, or raise maxPixels if you trust where it comes from.',
    );
  }
}

function formatOf(bytes: Uint8Array): ImageFormat | undefined {
  if (hasText(bytes, 0, '\x89PNG\r\n\x1a\n')) return 'PNG';
  if (hasText(bytes, 0, '\xff\xd8\xff')) return 'JPEG';
  if (hasText(bytes, 0, 'RIFF') && hasText(bytes, 8, 'WEBP')) return 'WebP';
  return undefined;
}

function hasText(bytes: Uint8Array, offset: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[offset + i] !== text.charCodeAt(i)) return false;
  return true;
}

function pngSize(view: DataView): Size {
  return { width: view.getUint32(16), height: view.getUint32(20) }; // the IHDR chunk is always first
}

function webpSize(view: DataView): Size | undefined {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  if (hasText(bytes, 12, 'VP8X')) return { width: uint24(view, 24) + 1, height: uint24(view, 27) + 1 };
  if (hasText(bytes, 12, 'VP8L')) {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
  }
  if (hasText(bytes, 12, 'VP8 ')) return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  return undefined;
}

function uint24(view: DataView, offset: number): number {
  return view.getUint16(offset, true) | (view.getUint8(offset + 2) << 16);
}

/** The size in the first frame header (SOF0 to SOF15, of which C4, C8 and CC are other segments). */
function jpegSize(view: DataView): Size | undefined {
  for (const { marker, offset } of jpegSegments(view)) {
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return { width: view.getUint16(offset + 5), height: view.getUint16(offset + 3) };
    }
  }
  return undefined;
}

/** Segments up to the start of scan; `offset` is that of the segment's length. */
function* jpegSegments(view: DataView): Generator<{ marker: number; offset: number }> {
  let offset = 2;
  while (offset + 4 <= view.byteLength) {
    if (view.getUint8(offset) !== 0xff) return;
    const marker = view.getUint8(offset + 1);
    if (marker === 0xff) {
      offset += 1; // fill byte
      continue;
    }
    yield { marker, offset: offset + 2 };
    if (marker === 0xda) return;
    offset += 2 + view.getUint16(offset + 2);
  }
}

/** Whether the file reaches its own end. Browsers draw truncated files without a word, so this is asked before any decoder is. */
function isComplete(bytes: Uint8Array, view: DataView, format: ImageFormat): boolean {
  if (format === 'WebP') return view.getUint32(4, true) + 8 <= bytes.length;
  if (format === 'JPEG') {
    const scan = [...jpegSegments(view)].find(({ marker }) => marker === 0xda);
    if (scan === undefined) return false;
    for (let i = bytes.length - 2; i >= scan.offset; i--) if (bytes[i] === 0xff && bytes[i + 1] === 0xd9) return true;
    return false;
  }
  for (let offset = 8; offset + 12 <= bytes.length; ) {
    const next = offset + 12 + view.getUint32(offset); // length, type, data, checksum
    if (hasText(bytes, offset + 4, 'IEND')) return next <= bytes.length;
    offset = next;
  }
  return false;
}
