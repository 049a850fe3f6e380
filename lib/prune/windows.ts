import type { Grid } from './grid';

/** A rectangle of patches of a grid: rows `top` to `bottom` - 1, columns `left` to `right` - 1. */
export interface Window {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/**
 * The grid in exactly `count` windows that are as nearly square and as equal as can be: about sqrt(count) bands of rows, each cut into as many windows as
 * its share of the count is. A count that divides the grid evenly gives equal windows: 64 of 24 x 24 gives 3 x 3.
 *
 * @param count 1 to rows * columns
 * @returns in raster order; every patch is in one
 */
export function evenWindows({ rows, columns }: Grid, count: number): Window[] {
  const wanted = Math.round(Math.sqrt((count * rows) / columns));
  const bands = Math.min(rows, count, Math.max(1, Math.ceil(count / columns), wanted));
  return Array.from({ length: bands }, (_, band) => {
    const inBand = edge(band + 1, bands, count) - edge(band, bands, count);
    return Array.from({ length: inBand }, (_, i) => ({
      top: edge(band, bands, rows),
      bottom: edge(band + 1, bands, rows),
      left: edge(i, inBand, columns),
      right: edge(i + 1, inBand, columns),
    }));
  }).flat();
}

/** Windows of `side` x `side` patches; those at the right and at the bottom have what is left. */
export function squareWindows({ rows, columns }: Grid, side: number): Window[] {
  const across = Math.ceil(columns / side);
  return Array.from({ length: Math.ceil(rows / side) * across }, (_, i) => {
    const [top, left] = [Math.floor(i / across) * side, (i % across) * side];
    return { top, bottom: Math.min(rows, top + side), left, right: Math.min(columns, left + side) };
  });
}

/** Raster indices of a window's patches, ascending. */
export function patchesOf({ top, bottom, left, right }: Window, { columns }: Grid): Int32Array {
  const width = right - left;
  return Int32Array.from({ length: (bottom - top) * width }, (_, i) => (top + Math.floor(i / width)) * columns + left + (i % width));
}

/** Raster index of the patch in its middle; of an even number of rows or columns, the upper or left one. */
export function centreOf({ top, bottom, left, right }: Window, { columns }: Grid): number {
  return Math.floor((top + bottom - 1) / 2) * columns + Math.floor((left + right - 1) / 2);
}

/** Where part `i` of `parts` equal parts of `length` begins. */
function edge(i: number, parts: number, length: number): number {
  return Math.round((i * length) / parts);
}
