import { ImageError } from '../../layers/errors';
import type { RgbImage } from './types';

/** The bytes of a PNG. @throws ImageError `IMAGE_TOO_LARGE` where the browser has no canvas of that size */
export async function encodePng({ width, height, data }: RgbImage): Promise<Uint8Array> {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  if (context === null)
    throw new ImageError('IMAGE_TOO_LARGE', `The browser has no canvas for ${width} x ${height} pixels. Scale the image down first.`);
  const pixels = context.createImageData(width, height);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    pixels.data.set(data.subarray(from, from + 3), to);
    pixels.data[to + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
}
