/** Inverse of the normal distribution at the middles of 65,536 equal parts, scaled to variance 1: made when first needed. */
let quantiles: Float32Array | undefined;

/** Normal random numbers that depend on a seed and a name alone: two a step of a 32-bit generator, by a table of quantiles. */
export class SeededNormals {
  private state: number;

  constructor(seed: number, name: string) {
    let hash = 0x811c9dc5 ^ seed; // FNV-1a over UTF-16 units
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
    this.state = hash >>> 0;
  }

  fill(values: Float32Array, deviation: number): void {
    const table = normalQuantiles();
    for (let i = 0; i < values.length; i += 2) {
      const bits = this.next();
      values[i] = deviation * (table[bits & 0xffff] as number);
      if (i + 1 < values.length) values[i + 1] = deviation * (table[bits >>> 16] as number);
    }
  }

  /** splitmix32: a Weyl sequence whose steps are mixed, so that seeds that differ in one bit have nothing in common. */
  private next(): number {
    this.state = (this.state + 0x9e3779b9) | 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }
}

/** How many inputs an output of this weight sums up: all dimensions but the first, or the size of a vector. */
export function fanIn(shape: readonly number[]): number {
  const inputs = shape.length < 2 ? shape : shape.slice(1);
  return Math.max(
    1,
    inputs.reduce((product, size) => product * size, 1),
  );
}

function normalQuantiles(): Float32Array {
  if (quantiles) return quantiles;
  const count = 65536;
  const table = new Float64Array(count);
  let squares = 0;
  // From the median outwards: each quantile by a Taylor step from the last, whose error the integrated mass corrects in the next.
  let [z, mass] = [0, 0.5];
  for (let i = count / 2; i < count; i++) {
    const target = (i + 0.5) / count;
    const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
    const u = (target - mass) / density;
    const next = z + u + (z * u * u) / 2 + ((2 * z * z + 1) * u * u * u) / 6;
    // the mass up to there, by Simpson's rule
    const middle = Math.exp(-0.125 * (z + next) ** 2) / Math.sqrt(2 * Math.PI);
    const end = Math.exp(-0.5 * next * next) / Math.sqrt(2 * Math.PI);
    mass += ((next - z) / 6) * (density + 4 * middle + end);
    z = next;
    table[i] = z;
    table[count - 1 - i] = -z;
    squares += 2 * z * z;
  }
  const scale = 1 / Math.sqrt(squares / count);
  quantiles = Float32Array.from(table, (value) => value * scale);
  return quantiles;
}
