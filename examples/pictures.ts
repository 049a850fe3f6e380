import sharp from 'sharp';

// Pictures for the notebooks: PNG bytes in, PNG bytes out.

const GAP = 8;

/** A small picture made large enough to look at, its pixels still visible. */
export async function enlarged(picture: string | Uint8Array, scale = 3): Promise<Buffer> {
  const { width = 0, height = 0 } = await sharp(picture).metadata();
  return sharp(picture)
    .resize(width * scale, height * scale, { kernel: 'nearest' })
    .png()
    .toBuffer();
}

/** Several pictures in a row, on white, as high as the highest. */
export async function beside(pictures: readonly (string | Uint8Array)[]): Promise<Buffer> {
  const parts: { input: string | Buffer; left: number; top: number }[] = [];
  let width = 0;
  let height = 0;
  for (const picture of pictures) {
    const size = await sharp(picture).metadata();
    parts.push({ input: typeof picture === 'string' ? picture : Buffer.from(picture), left: width, top: 0 });
    width += (size.width ?? 0) + GAP;
    height = Math.max(height, size.height ?? 0);
  }
  return sharp({ create: { width: width - GAP, height, channels: 3, background: 'white' } })
    .composite(parts)
    .png()
    .toBuffer();
}

/**
 * A value for each patch as warmth over the picture, which is darkened: grey where the value is least, orange where it is greatest.
 *
 * @param values one for each of `grid.rows * grid.columns` patches, in raster order
 */
export async function heatMap(picture: string | Uint8Array, values: ArrayLike<number>, grid: { rows: number; columns: number }): Promise<Buffer> {
  const { data, info } = await sharp(picture).toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const greatest = Math.max(...Array.from(values));
  for (let y = 0; y < info.height; y++) {
    for (let x = 0; x < info.width; x++) {
      const patch = Math.floor((y * grid.rows) / info.height) * grid.columns + Math.floor((x * grid.columns) / info.width);
      const warmth = Math.sqrt((values[patch] ?? 0) / greatest); // the square root shows small values too
      const at = (y * info.width + x) * 3;
      const grey = 0.2 * ((data[at] ?? 0) + (data[at + 1] ?? 0) + (data[at + 2] ?? 0));
      data[at] = grey + (255 - grey) * warmth;
      data[at + 1] = grey + (140 - grey) * warmth * warmth;
      data[at + 2] = grey * (1 - warmth);
    }
  }
  return sharp(data, { raw: { width: info.width, height: info.height, channels: 3 } })
    .png()
    .toBuffer();
}

/** A drawing as pixels: a notebook shows it at its own size wherever it is opened. */
export function fromSvg(svg: string): Promise<Buffer> {
  return sharp(Buffer.from(svg)).png().toBuffer();
}
