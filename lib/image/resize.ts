import { finish, type Steps } from '../pacer';
import type { Rectangle, RgbImage, Size } from './types';

/** PIL's names and numbers: 2 is bilinear, 3 is bicubic. */
export type Filter = 'bilinear' | 'bicubic';

/** Where an image lies on a larger, evenly coloured canvas, which is never built. */
export interface Canvas extends Size {
  readonly left: number;
  readonly top: number;
  readonly fill: readonly [number, number, number];
}

export interface ResizeOptions {
  readonly filter: Filter;
  /** The part of the resized image to compute; all of it if absent. It has to lie inside. */
  readonly window?: Rectangle;
  /** Resize this canvas with the image on it, instead of the image. */
  readonly canvas?: Canvas;
}

/** Fixed point of PIL's 8-bit path: 8 bits for the value and 2 for overshoot leave 22 of an int32. */
const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);
/** A local name: a property of a global is slow to look up inside jest's and other sandboxes, and this runs once per tap. */
const { imul } = Math;

/** Products between two pauses: about 20 ms. */
const STEP = 2 ** 23;

/** Counts products, and tells when a step is full. */
class Work {
  private done = 0;

  passes(products: number): boolean {
    this.done += products;
    if (this.done < STEP) return false;
    this.done = 0;
    return true;
  }
}

const FILTERS: Record<Filter, { readonly support: number; weight(x: number): number }> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    // Keys (1981) with a = -0.5
    weight: (value) => {
      const x = Math.abs(value);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
      return 0;
    },
  },
};

/**
 * Resizes as PIL's `Image.resize` does, equal in every byte: antialiased (the filter widens by the scale), rows first and columns after, each pass in 22-bit
 * fixed point and rounded to 8 bits. TensorFlow's and sharp's bicubic differ from it.
 *
 * Differs from Pillow 13: that one takes columns first where the height shrinks by more than twice what the width does (some tall images; up to 16 steps of a
 * byte at hard edges). Every Pillow before it, with which the published models were trained, takes rows first always, and so do we.
 *
 * Only the window is computed, from the pixels that it needs, so that a strip of 1 x 60000 pixels costs no more than a photograph.
 */
export function resize(image: RgbImage, size: Size, options: ResizeOptions): RgbImage {
  return finish(resizeSteps(image, size, options));
}

/** The same, in steps of about `STEP` products. */
export function* resizeSteps(image: RgbImage, size: Size, options: ResizeOptions): Steps<RgbImage> {
  const canvas = options.canvas ?? { width: image.width, height: image.height, left: 0, top: 0, fill: [0, 0, 0] };
  const window = options.window ?? { x: 0, y: 0, width: size.width, height: size.height };
  const columns = tapsOf(options.filter, canvas.width, size.width, window.x, window.width, canvas.left, image.width);
  const rows = tapsOf(options.filter, canvas.height, size.height, window.y, window.height, canvas.top, image.height);
  const firstRow = Math.min(...rows.starts);
  const endRow = rows.starts.reduce((end, start, i) => Math.max(end, start + (rows.lengths[i] as number)), 0);
  const stride = window.width * 3;
  const work = new Work();
  const between = new Uint8ClampedArray(Math.max(0, endRow - firstRow) * stride);
  for (let y = firstRow; y < endRow; y++) {
    const row = image.data.subarray(y * image.width * 3, (y + 1) * image.width * 3);
    resizeRow(row, columns, canvas.fill, between.subarray((y - firstRow) * stride, (y - firstRow + 1) * stride));
    if (work.passes(stride * columns.size)) yield;
  }
  return { width: window.width, height: window.height, data: yield* resizeColumns(between, firstRow, stride, rows, canvas.fill, work) };
}

/** What each output position takes along one axis: `lengths` image positions from `starts`, by fixed-point weights (`size` apart), and `padding` times the fill. */
interface Taps {
  readonly starts: Int32Array;
  readonly lengths: Int32Array;
  readonly weights: Int32Array;
  readonly size: number;
  readonly padding: Int32Array;
}

/** Output positions `first` and on, `count` of them, of an axis that goes from length `from` to length `to`, with the image at `offset`. */
function tapsOf(filter: Filter, from: number, to: number, first: number, count: number, offset: number, imageLength: number): Taps {
  const { support: unitSupport, weight } = FILTERS[filter];
  const scale = from / to;
  const stretch = Math.max(scale, 1); // only shrinking widens the filter
  const support = unitSupport * stretch;
  const size = Math.min(Math.ceil(support) * 2 + 1, imageLength);
  const taps = {
    starts: new Int32Array(count),
    lengths: new Int32Array(count),
    weights: new Int32Array(count * size),
    size,
    padding: new Int32Array(count),
  };
  const exact = new Float64Array(Math.ceil(support) * 2 + 1);
  const perStretch = 1 / stretch;
  for (let i = 0; i < count; i++) {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const length = Math.min(from, Math.trunc(centre + support + 0.5)) - start;
    let total = 0;
    for (let k = 0; k < length; k++) {
      const value = weight((k + start - centre + 0.5) * perStretch);
      exact[k] = value;
      total += value;
    }
    const imageStart = Math.min(Math.max(start, offset), offset + imageLength);
    const imageEnd = Math.max(Math.min(start + length, offset + imageLength), imageStart);
    taps.starts[i] = imageStart - offset;
    taps.lengths[i] = imageEnd - imageStart;
    let padding = 0;
    for (let k = 0; k < length; k++) {
      const share = total === 0 ? (exact[k] as number) : (exact[k] as number) / total;
      const fixed = Math.trunc(share * (1 << PRECISION_BITS) + (share < 0 ? -0.5 : 0.5));
      if (start + k >= imageStart && start + k < imageEnd) taps.weights[i * size + start + k - imageStart] = fixed;
      else padding += fixed;
    }
    taps.padding[i] = padding;
  }
  return taps;
}

function resizeRow(source: Uint8Array, taps: Taps, fill: Canvas['fill'], target: Uint8ClampedArray): void {
  const { starts, lengths, weights, size, padding } = taps;
  for (let x = 0; x < starts.length; x++) {
    let red = HALF + (padding[x] as number) * fill[0];
    let green = HALF + (padding[x] as number) * fill[1];
    let blue = HALF + (padding[x] as number) * fill[2];
    let from = (starts[x] as number) * 3;
    const end = x * size + (lengths[x] as number);
    for (let k = x * size; k < end; k++) {
      const weight = weights[k] as number;
      red = (red + imul(source[from] as number, weight)) | 0;
      green = (green + imul(source[from + 1] as number, weight)) | 0;
      blue = (blue + imul(source[from + 2] as number, weight)) | 0;
      from += 3;
    }
    target[3 * x] = red >> PRECISION_BITS;
    target[3 * x + 1] = green >> PRECISION_BITS;
    target[3 * x + 2] = blue >> PRECISION_BITS;
  }
}

/** Rows `firstRow` and on of the first pass, [rows, stride] -> [window height, stride]. Padding is still the fill: a constant resizes to itself. */
function* resizeColumns(
  source: Uint8ClampedArray,
  firstRow: number,
  stride: number,
  taps: Taps,
  fill: Canvas['fill'],
  work: Work,
): Steps<Uint8Array> {
  const { starts, lengths, weights, size, padding } = taps;
  const target = new Uint8ClampedArray(starts.length * stride); // clips where the filter overshoots
  const sums = new Int32Array(stride);
  for (let y = 0; y < starts.length; y++) {
    for (let x = 0; x < stride; x++) sums[x] = HALF + (padding[y] as number) * (fill[x % 3] as number);
    for (let k = 0; k < (lengths[y] as number); k++) {
      const weight = weights[y * size + k] as number;
      const from = ((starts[y] as number) - firstRow + k) * stride;
      for (let x = 0; x < stride; x++) sums[x] = (sums[x] as number) + imul(source[from + x] as number, weight);
    }
    for (let x = 0; x < stride; x++) target[y * stride + x] = (sums[x] as number) >> PRECISION_BITS;
    if (work.passes(stride * (lengths[y] as number))) yield;
  }
  return new Uint8Array(target.buffer);
}
