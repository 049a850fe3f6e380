import sharp from 'sharp';
import type { RgbImage } from './types';

/** The bytes of a PNG. */
export async function encodePng({ width, height, data }: RgbImage): Promise<Uint8Array> {
  return new Uint8Array(
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer(),
  );
}
