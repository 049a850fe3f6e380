/** Patches of one crop in raster order: `rows * columns` of them. */
export interface Grid {
  readonly rows: number;
  readonly columns: number;
}
