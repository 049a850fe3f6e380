import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';

const folder = join(__dirname, '../../fixtures/vispruner-golden');

/** A recorded selection of the released code (see the fixture's README). */
export interface GoldenCase {
  readonly name: string;
  readonly N: number;
  readonly C: number;
  readonly H: number;
  readonly T: number;
  readonly r: number;
  readonly step: number;
  readonly kept: readonly number[];
}

export interface EdgeCase {
  readonly name: string;
  readonly why: string;
  readonly T: number;
  readonly r: number;
  readonly step: number;
  readonly features: number[][];
  readonly attention: number[][];
  readonly expect: { readonly count: number };
  readonly kept_with_stable_sorts: readonly number[];
}

export const goldenCases: readonly GoldenCase[] = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8'));
export const edgeCases: readonly EdgeCase[] = JSON.parse(readFileSync(join(folder, 'edge-cases.json'), 'utf8'));

const file = readFileSync(join(folder, 'cases.safetensors'));
const headerBytes = Number(file.readBigUInt64LE(0));
const header: Record<string, { shape: [number, number]; data_offsets: [number, number] }> = JSON.parse(file.toString('utf8', 8, 8 + headerBytes));

/** One of the cases' tensors: `<case>.features` or `<case>.attention`. */
export function goldenTensor(name: string): tf.Tensor2D {
  const entry = header[name]!;
  const [start, end] = entry.data_offsets;
  const values = new Float32Array(Uint8Array.from(file.subarray(8 + headerBytes + start, 8 + headerBytes + end)).buffer);
  return tf.tensor2d(values, entry.shape, 'float32');
}

/** Selects one of the backends that every plain install has. */
export async function useBackend(name: 'wasm' | 'cpu'): Promise<void> {
  if (name === 'wasm') setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  if (!(await tf.setBackend(name))) throw new Error(`${name} did not start`);
  await tf.ready();
}
