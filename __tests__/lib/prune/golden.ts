import type * as tf from '@tensorflow/tfjs';
import { RecordedFile, readJson } from '../../support/recorded';

/** A recorded selection of the released code (see the fixture's README). */
export interface GoldenCase {
  readonly name: string;
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

export const goldenCases: readonly GoldenCase[] = readJson('vispruner-golden', 'cases.json');
export const edgeCases: readonly EdgeCase[] = readJson('vispruner-golden', 'edge-cases.json');

const file = new RecordedFile('vispruner-golden', 'cases.safetensors');

/** One of the cases' tensors: `<case>.features` or `<case>.attention`. */
export function goldenTensor(name: string): tf.Tensor2D {
  return file.tensor(name) as tf.Tensor2D;
}
