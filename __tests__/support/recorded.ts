import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';

/** A tensor of a fixture, as plain numbers. */
export interface Recorded {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

export const FIXTURES: string = join(__dirname, '..', 'fixtures');

/** Reads a fixture by itself, without the reader under test: float32 and int64 of well-formed files only. */
export class RecordedFile {
  private readonly bytes: Buffer;
  private readonly entries: ReadonlyMap<string, HeaderEntry>;
  private readonly start: number;

  constructor(...path: string[]) {
    this.bytes = readFileSync(join(FIXTURES, ...path));
    const length = Number(this.bytes.readBigUInt64LE(0));
    this.start = 8 + length;
    const header = JSON.parse(this.bytes.toString('utf8', 8, this.start)) as Record<string, HeaderEntry>;
    this.entries = new Map(Object.entries(header).filter(([name]) => name !== '__metadata__'));
  }

  get names(): string[] {
    return [...this.entries.keys()];
  }

  get(name: string): Recorded {
    const entry = this.entries.get(name);
    if (!entry) throw new Error(`The fixture has no "${name}". It has: ${this.names.join(', ')}`);
    const [begin, end] = entry.data_offsets;
    const data = Uint8Array.from(this.bytes.subarray(this.start + begin, this.start + end)).buffer;
    if (entry.dtype === 'F32') return { shape: entry.shape, values: new Float32Array(data) };
    if (entry.dtype === 'I64') return { shape: entry.shape, values: Float32Array.from(new BigInt64Array(data), Number) };
    throw new Error(`The fixture's "${name}" is ${entry.dtype}`);
  }

  /** The caller disposes it. A leading dimension of 1 (a batch of one) can be left out. */
  tensor(name: string, shape?: readonly number[]): tf.Tensor {
    const { shape: own, values } = this.get(name);
    return tf.tensor(values, [...(shape ?? own)], 'float32');
  }

  ids(name: string): Int32Array {
    return Int32Array.from(this.get(name).values);
  }
}

export function readJson<T>(...path: string[]): T {
  return JSON.parse(readFileSync(join(FIXTURES, ...path), 'utf8')) as T;
}

/** transformers' pixels [crops, channels, H, W], from crop `first` on -> [crops, H, W, channels]; the caller disposes them. */
export function channelsLast(pixels: Recorded, first: number, count: number): tf.Tensor4D {
  return tf.tidy(() => {
    const all = tf.tensor4d(pixels.values, pixels.shape as [number, number, number, number]);
    return tf.transpose(tf.slice(all, [first, 0, 0, 0], [count, -1, -1, -1]), [0, 2, 3, 1]);
  });
}
