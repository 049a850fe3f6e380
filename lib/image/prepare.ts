import * as tf from '@tensorflow/tfjs';
import { ImageError } from '../../layers/errors';
import { finish, type Steps } from '../pacer';
import { DEFAULT_MAX_PIXELS } from './header';
import type { Aspect, PreprocessorConfig } from './preprocessor_config';
import { type Canvas, resizeSteps } from './resize';
import { checkRgbImage } from './source';
import type { CropGeometry, PreparedImage, Rectangle, RgbImage, Size } from './types';

export interface PrepareOptions {
  /** Side of a patch in pixels: the vision tower's `patch_size`. */
  readonly patchSize: number;
  /** Overrides what the configuration says. */
  readonly aspect?: Aspect;
}

/**
 * An image as the encoder takes it, by the steps of transformers' PIL-backed CLIPImageProcessor: pad to a square (if asked for), resize, cut out the centre,
 * rescale, normalise. Equal to it in every uint8 step, and in every float32.
 *
 * Padding is that of LLaVA-1.5's own code (`expand2square`): the mean colour, truncated to bytes, on both sides of the shorter side, before resizing.
 *
 * @throws {ImageError} `IMAGE_ZERO_SIDE`, `IMAGE_DATA`, `IMAGE_TOO_LARGE` for more pixels than an image may have
 */
export function prepareImage(image: RgbImage, config: PreprocessorConfig, options: PrepareOptions): PreparedImage {
  return finish(prepareSteps(image, config, options));
}

/** The same, in steps: a large photograph takes a second. */
export function* prepareSteps(image: RgbImage, config: PreprocessorConfig, options: PrepareOptions): Steps<PreparedImage> {
  const { pixels, geometry } = yield* cropPixels(image, config, options.aspect);
  const { width, height } = pixels;
  return {
    pixelValues: tf.tensor4d(normalise(pixels.data, config), [1, height, width, 3], 'float32'),
    originalSize: { width: image.width, height: image.height },
    grid: { rows: Math.floor(height / options.patchSize), columns: Math.floor(width / options.patchSize) },
    geometry: [geometry],
  };
}

/** The uint8 steps: the pixels that the encoder will see, and where they lie on the original. */
export function* cropPixels(
  image: RgbImage,
  config: PreprocessorConfig,
  aspect: Aspect = config.aspect,
): Steps<{ pixels: RgbImage; geometry: CropGeometry }> {
  checkRgbImage(image);
  const canvas =
    checkedAspect(aspect) === 'pad'
      ? squareCanvas(image, config.image_mean)
      : { width: image.width, height: image.height, left: 0, top: 0, fill: [0, 0, 0] as const };
  const resized = config.do_resize ? resizedSize(canvas, config.size) : canvas;
  const crop = config.do_center_crop ? config.crop_size : resized;
  if (crop.width * crop.height > DEFAULT_MAX_PIXELS) {
    throw new ImageError(
      'IMAGE_TOO_LARGE',
      `An image of ${image.width} x ${image.height} pixels would be prepared as ${crop.width} x ${crop.height}, over the limit of ${DEFAULT_MAX_PIXELS}. Cut it, or correct the preprocessor configuration.`,
    );
  }
  // Negative where the crop is larger: the rest stays black.
  const left = Math.floor((resized.width - crop.width) / 2);
  const top = Math.floor((resized.height - crop.height) / 2);
  const window: Rectangle = {
    x: Math.max(0, left),
    y: Math.max(0, top),
    width: Math.min(resized.width, crop.width),
    height: Math.min(resized.height, crop.height),
  };
  const visible = yield* resizeSteps(image, resized, { filter: config.resample, window, canvas });
  const scaleX = canvas.width / resized.width;
  const scaleY = canvas.height / resized.height;
  return {
    pixels: placeOn(crop, visible, Math.max(0, -left), Math.max(0, -top)),
    geometry: { offsetX: left * scaleX - canvas.left, offsetY: top * scaleY - canvas.top, scaleX, scaleY },
  };
}

/**
 * Where patch `index` (raster order) of a crop lies on the original image, cut at its borders: of no width or height if it saw nothing but padding.
 *
 * @throws {ImageError} `IMAGE_GEOMETRY` if the image was prepared elsewhere, or has no such crop or patch
 */
export function patchRectangle(prepared: PreparedImage, crop: number, index: number): Rectangle {
  const { grid, originalSize, pixelValues } = prepared;
  const geometry = prepared.geometry?.[crop];
  if (geometry === undefined || !(index >= 0 && index < grid.rows * grid.columns)) {
    throw new ImageError(
      'IMAGE_GEOMETRY',
      `There is no patch ${index} of crop ${crop}: the image has ${prepared.geometry?.length ?? 'no'} crops with a known place, of ${grid.rows} x ${grid.columns} patches.`,
    );
  }
  const [, height, width] = pixelValues.shape;
  const patchHeight = Math.floor(height / grid.rows) * geometry.scaleY;
  const patchWidth = Math.floor(width / grid.columns) * geometry.scaleX;
  const left = geometry.offsetX + (index % grid.columns) * patchWidth;
  const top = geometry.offsetY + Math.floor(index / grid.columns) * patchHeight;
  const x = clamp(left, originalSize.width);
  const y = clamp(top, originalSize.height);
  return { x, y, width: clamp(left + patchWidth, originalSize.width) - x, height: clamp(top + patchHeight, originalSize.height) - y };
}

/**
 * Checks the form of an image that comes from elsewhere before a model counts its tokens.
 *
 * @param tower what the vision tower takes
 * @throws {ImageError} `IMAGE_TENSOR` for a wrong rank, dtype or shape, or a grid that does not belong to it
 */
export function checkPixelForm(image: PreparedImage, tower: { readonly image_size: number; readonly patch_size: number }): void {
  const { image_size: side, patch_size: patch } = tower;
  const { shape, dtype } = image.pixelValues as tf.Tensor;
  if (dtype !== 'float32' || shape.length !== 4 || shape[0] === 0 || shape[1] !== side || shape[2] !== side || shape[3] !== 3) {
    const hint =
      shape.length === 4 && shape[1] === 3 ? ' It looks channels-first, as PyTorch has it: transpose it to [crops, H, W, 3].' : ' Use prepareImages.';
    throw new ImageError(
      'IMAGE_TENSOR',
      `pixelValues must be float32 of shape [crops, ${side}, ${side}, 3], and is ${dtype} of shape [${shape.join(', ')}].${hint}`,
    );
  }
  const patches = side / patch;
  if (image.grid?.rows !== patches || image.grid.columns !== patches) {
    throw new ImageError(
      'IMAGE_TENSOR',
      `The grid of an image is ${image.grid?.rows} x ${image.grid?.columns}, but ${side} x ${side} pixels have ${patches} x ${patches} patches of ${patch}. Use prepareImages.`,
    );
  }
}

/** @throws {ImageError} `IMAGE_NAN` for pixels that are not finite */
export async function checkPixelValues(pixelValues: tf.Tensor): Promise<void> {
  const values = await pixelValues.data();
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0)
    throw new ImageError(
      'IMAGE_NAN',
      `pixelValues must be finite, and value ${wrong} of ${values.length} is ${values[wrong]}. Check how the pixels were made.`,
    );
}

/** @throws {ImageError} `ASPECT_INVALID` */
function checkedAspect(aspect: Aspect): Aspect {
  if (aspect === 'pad' || aspect === 'crop') return aspect;
  throw new ImageError('ASPECT_INVALID', `Option "aspect" is ${JSON.stringify(aspect)}. Give "crop" or "pad".`);
}

function squareCanvas(image: Size, mean: readonly [number, number, number]): Canvas {
  const longest = Math.max(image.width, image.height);
  return {
    width: longest,
    height: longest,
    left: Math.floor((longest - image.width) / 2),
    top: Math.floor((longest - image.height) / 2),
    fill: [Math.trunc(mean[0] * 255), Math.trunc(mean[1] * 255), Math.trunc(mean[2] * 255)],
  };
}

/** The longer side is truncated, as transformers does. */
function resizedSize(from: Size, size: PreprocessorConfig['size']): Size {
  if (!('shortest_edge' in size)) return size;
  const edge = size.shortest_edge;
  return from.width <= from.height
    ? { width: edge, height: Math.trunc((edge * from.height) / from.width) }
    : { width: Math.trunc((edge * from.width) / from.height), height: edge };
}

function placeOn(size: Size, image: RgbImage, left: number, top: number): RgbImage {
  if (image.width === size.width && image.height === size.height) return image;
  const data = new Uint8Array(size.width * size.height * 3);
  for (let y = 0; y < image.height; y++) {
    data.set(image.data.subarray(y * image.width * 3, (y + 1) * image.width * 3), ((top + y) * size.width + left) * 3);
  }
  return { width: size.width, height: size.height, data };
}

/** Rescales and normalises by a table of the 256 values of each channel, rounded to float32 where NumPy rounds. */
function normalise(data: Uint8Array, config: PreprocessorConfig): Float32Array {
  const tables = [0, 1, 2].map((channel) => {
    const mean = Math.fround(config.image_mean[channel] as number);
    const deviation = Math.fround(config.image_std[channel] as number);
    return Float32Array.from({ length: 256 }, (_, value) => {
      const rescaled = config.do_rescale ? Math.fround(value * config.rescale_factor) : value;
      return config.do_normalize ? Math.fround(rescaled - mean) / deviation : rescaled;
    });
  });
  const [red, green, blue] = tables as [Float32Array, Float32Array, Float32Array];
  const values = new Float32Array(data.length);
  for (let i = 0; i < data.length; i += 3) {
    values[i] = red[data[i] as number] as number;
    values[i + 1] = green[data[i + 1] as number] as number;
    values[i + 2] = blue[data[i + 2] as number] as number;
  }
  return values;
}

function clamp(value: number, end: number): number {
  return Math.min(Math.max(value, 0), end);
}
