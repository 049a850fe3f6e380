import type * as tf from '@tensorflow/tfjs';
import type { Grid } from '../prune/types';

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** A decoded image: 8-bit RGB, rows from top to bottom, `data[(y * width + x) * 3 + channel]`. */
export interface RgbImage extends Size {
  readonly data: Uint8Array;
}

/**
 * What an image can be given as. A string is a path in Node and an address (relative to the page) in a browser; a `URL` may be `file:` (Node only),
 * `http(s):`, `data:` or `blob:`. Bytes are those of a JPEG, PNG or WebP file.
 */
export type ImageInput = string | URL | Uint8Array | ArrayBuffer | Blob | RgbImage;

export interface DecodeOptions {
  /** Most pixels that an image may declare; the header is checked before anything is decoded. Default: 16383 x 16383. */
  readonly maxPixels?: number;
  readonly signal?: AbortSignal;
}

/** Decoding behind one interface: `decode_node` (sharp) and `decode_browser` (createImageBitmap). */
export type ImageDecoder = (input: ImageInput, options?: DecodeOptions) => Promise<RgbImage>;

/** How pixels of one crop map back: pixel edge (x, y) of the crop is (offsetX + x * scaleX, offsetY + y * scaleY) of the original image, which it may leave. */
export interface CropGeometry {
  readonly offsetX: number;
  readonly offsetY: number;
  readonly scaleX: number;
  readonly scaleY: number;
}

/** An image as the encoder takes it. Whoever prepared it disposes `pixelValues`. */
export interface PreparedImage {
  /** [crops, H, W, 3] float32, normalised. */
  readonly pixelValues: tf.Tensor4D;
  /** After the EXIF orientation was applied. */
  readonly originalSize: Size;
  /** Patches of every crop. */
  readonly grid: Grid;
  /** One per crop; absent for pixels that were prepared elsewhere, of which no overlay can be drawn. */
  readonly geometry?: readonly CropGeometry[];
}

/** A rectangle in pixels of the original image. */
export interface Rectangle extends Size {
  readonly x: number;
  readonly y: number;
}
