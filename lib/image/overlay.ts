import { ImageError } from '../../layers/errors';
import { checkOptionNames, type OptionNames } from '../../weights/option_names';
import type { KeptPatches } from '../encoded';
import { decodeImage } from './decode_node';
import { encodePng } from './encode_node';
import { checkPixelLimit, DEFAULT_MAX_PIXELS } from './header';
import { patchRectangle } from './prepare';
import type { ImageInput, PreparedImage, Rectangle, RgbImage } from './types';

export interface OverlayOptions {
  /** Whole number by which the picture is enlarged. Default: the smallest that makes its shorter side at least 512 pixels, unless its longer one gets over 4096. */
  readonly scale?: number;
}

const OVERLAY_OPTIONS: OptionNames<OverlayOptions> = { scale: true };

const SHOWN_SIDE = 512;
/** Longest side of the picture by default, where the image itself is no longer: a strip is not enlarged to gigabytes. */
const LONGEST_SIDE = 4096;
/** Light of what was dropped, which also loses its colour. */
const DIMMED = 0.3;
const FRAME: readonly [number, number, number] = [255, 176, 0];

/**
 * An image with the patches that were kept of one crop: they have their colours and a frame, the rest is dark and grey.
 *
 * @param prepared the same image as the model's processor prepared it: it knows where patches lie
 * @returns the bytes of a PNG
 * @throws ImageError `IMAGE_GEOMETRY` when `prepared` is of another image, or knows no places; what decoding throws
 *
 * ```ts
 * const [prepared] = await model.prepareImages(['cat.jpg']);
 * const { visual } = await model.ask(prepared, 'What is it?', { prune: { method: 'vispruner', tokens: 64 } });
 * await writeFile('kept.png', await drawKept('cat.jpg', prepared, visual[0]));
 * ```
 */
export async function drawKept(
  image: ImageInput,
  prepared: PreparedImage,
  kept: Pick<KeptPatches, 'crop' | 'kept'>,
  options: OverlayOptions = {},
): Promise<Uint8Array> {
  checkOptionNames(options, OVERLAY_OPTIONS, 'drawKept');
  const decoded = await decodeImage(image);
  const { width, height } = prepared.originalSize;
  if (decoded.width !== width || decoded.height !== height) {
    throw new ImageError(
      'IMAGE_GEOMETRY',
      `The image is ${decoded.width} x ${decoded.height} pixels, the prepared one was ${width} x ${height}. Give the image that was prepared.`,
    );
  }
  const rectangles = Array.from(kept.kept, (index: number) => patchRectangle(prepared, kept.crop, index));
  return encodePng(paintKept(decoded, rectangles, options.scale ?? usualScale(width, height)));
}

function usualScale(width: number, height: number): number {
  const wanted = Math.ceil(SHOWN_SIDE / Math.min(width, height));
  return Math.max(1, Math.min(wanted, Math.floor(LONGEST_SIDE / Math.max(width, height))));
}

/** The picture enlarged `scale` times, dark but for the rectangles, which are given in its own pixels. */
export function paintKept(image: RgbImage, rectangles: readonly Rectangle[], scale: number): RgbImage {
  if (!Number.isInteger(scale) || scale < 1) throw new ImageError('OVERLAY_SCALE', `Option "scale" is ${scale}. Give a whole number of at least 1.`);
  const width = image.width * scale;
  const height = image.height * scale;
  checkPixelLimit({ width, height }, DEFAULT_MAX_PIXELS, `The picture, enlarged ${scale} times,`);
  const data = new Uint8Array(width * height * 3);
  const source = (x: number, y: number) => (Math.floor(y / scale) * image.width + Math.floor(x / scale)) * 3;
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const from = source(x, y);
      const grey = 0.299 * (image.data[from] as number) + 0.587 * (image.data[from + 1] as number) + 0.114 * (image.data[from + 2] as number);
      data[to] = data[to + 1] = data[to + 2] = DIMMED * grey;
    }
  }
  const line = Math.max(1, Math.round(Math.min(width, height) / SHOWN_SIDE));
  for (const rectangle of rectangles) {
    const [left, right] = [Math.round(rectangle.x * scale), Math.round((rectangle.x + rectangle.width) * scale)];
    const [top, bottom] = [Math.round(rectangle.y * scale), Math.round((rectangle.y + rectangle.height) * scale)];
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const edge = x < left + line || x >= right - line || y < top + line || y >= bottom - line;
        const from = source(x, y);
        data.set(edge ? FRAME : image.data.subarray(from, from + 3), (y * width + x) * 3);
      }
    }
  }
  return { width, height, data };
}
