/** Of a row over tokens 0 to N - 1: how much lies where. */
export interface Profile {
  /** [N] */
  readonly values: Float32Array;
  /** Sum of all values. */
  readonly mass: number;
  /** Share of the mass in each quarter of the indices, from the first to the last; NaN where there is no mass. */
  readonly quartiles: readonly number[];
  /** Spearman's rank correlation of the values with their index: 1 where they only rise, -1 where they only fall, 0 where all are equal. */
  readonly spearman: number;
}

export function profileOf(values: Float32Array): Profile {
  const quartiles = quartileSums(values);
  const mass = quartiles.reduce((sum, part) => sum + part, 0);
  return { values, mass, quartiles: quartiles.map((part) => part / mass), spearman: spearmanWithIndex(values) };
}

/** Where quarter `quarter` (0 to 3) of `size` indices begins; quarter 4 begins at their end. */
export function quartileStart(size: number, quarter: number): number {
  return Math.floor((quarter * size) / 4);
}

function quartileSums(values: Float32Array): number[] {
  return [0, 1, 2, 3].map((quarter) => {
    const part = values.subarray(quartileStart(values.length, quarter), quartileStart(values.length, quarter + 1));
    return part.reduce((sum, value) => sum + value, 0);
  });
}

/** Spearman's rho of values and their indices; equal values share the mean of their ranks. 0 where all are equal or there is one at most. */
export function spearmanWithIndex(values: Float32Array): number {
  const ranks = ranksOf(values);
  const middle = (values.length - 1) / 2; // the mean of the indices and of the ranks
  let [product, square, indexSquare] = [0, 0, 0];
  for (const [index, rank] of ranks.entries()) {
    product += (index - middle) * (rank - middle);
    square += (rank - middle) ** 2;
    indexSquare += (index - middle) ** 2;
  }
  return square === 0 || indexSquare === 0 ? 0 : product / Math.sqrt(square * indexSquare);
}

/** Ranks from 0, the smallest value's. */
function ranksOf(values: Float32Array): Float64Array {
  const order = Array.from(values.keys()).sort((a, b) => (values[a] as number) - (values[b] as number));
  const ranks = new Float64Array(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end] as number] === values[order[start] as number]) end++;
    for (let i = start; i < end; i++) ranks[order[i] as number] = (start + end - 1) / 2;
    start = end;
  }
  return ranks;
}

/** Adds up rows of one length, to be averaged: in double precision, as thousands of small numbers are. */
export class MeanRow {
  private readonly sums: Float64Array;
  private count = 0;

  constructor(readonly length: number) {
    this.sums = new Float64Array(length);
  }

  add(row: ArrayLike<number>, scale = 1): void {
    for (let i = 0; i < this.length; i++) this.sums[i] = (this.sums[i] as number) + scale * (row[i] as number);
    this.count++;
  }

  get mean(): Float32Array {
    return Float32Array.from(this.sums, (sum) => sum / this.count);
  }
}
