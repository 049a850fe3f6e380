/**
 * Products with half-precision matrices against the bare operations of TensorFlow that they are made of, in one run, alternating:
 *
 *   npm run bench:half [-- bfloat16|float16]
 *
 * "here": Matrix.apply, float32 rows in and out. "bare": the product alone, of rows and weight that are in half precision already, by the fastest
 * operation there is for it (for one row in bfloat16 oneDNN's own, where the binding and the processor have it). "float32": Matrix.apply with dtype
 * "float32". Lowest of several rounds; on a shared machine the ratios say more than the times.
 */
import * as tf from '@tensorflow/tfjs';
import { choosePrecision, useBackend } from '../lib/index';
import { machine } from './machine';
import { table } from './statistics';

/** [in, out]: attention, up, down and head of a 7B model. */
const SHAPES: readonly (readonly [number, number])[] = [
  [4096, 4096],
  [4096, 11008],
  [11008, 4096],
  [4096, 32000],
];
const ROWS: readonly number[] = [1, 8, 128, 640];
/** Milliseconds given to a case, and the least rounds of it. */
const [TIME, LEAST] = [2000, 3];
const TYPES = { bfloat16: 14, float16: 19 } as const;

interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: boolean | number | string | readonly string[];
}

/** The operations themselves, without this package. */
interface Bare {
  readonly binding: {
    readonly VISPRUNER_PATCH?: number;
    readonly TF_ATTR_TYPE: number;
    readonly TF_ATTR_BOOL: number;
    readonly TF_ATTR_INT: number;
    readonly TF_ATTR_FLOAT: number;
    readonly TF_ATTR_STRING: number;
    createTensor(shape: readonly number[], dtype: number, values: Uint8Array): number;
    deleteTensor(id: number): void;
    executeOp(name: string, attributes: readonly Attribute[], inputs: readonly number[], outputs: number): { readonly id: number }[];
  };
  getInputTensorIds(tensors: readonly tf.Tensor[]): number[];
}

class BareOperations {
  private readonly backend = tf.findBackend('tensorflow') as unknown as Bare;

  constructor(readonly oneRow: boolean) {}

  weight(bytes: Uint8Array, shape: readonly [number, number], type: number): number {
    const { binding } = this.backend;
    const raw = binding.createTensor([...shape, 2], 4, bytes);
    const id = this.run('Bitcast', [this.type('T', 4), this.type('type', type)], [raw]);
    binding.deleteTensor(raw);
    return id;
  }

  cast(id: number, from: number, to: number): number {
    return this.run('Cast', [this.type('SrcT', from), this.type('DstT', to), this.flag('Truncate', false)], [id]);
  }

  idOf(tensor: tf.Tensor): number {
    return this.backend.getInputTensorIds([tensor])[0] as number;
  }

  /** rows x W^T with W [out, in], in the way that is fastest for so many rows. */
  product(rows: number, type: number, x: number, weight: number, zeros: number): number {
    const transposed = [this.type('T', type), this.flag('transpose_a', false), this.flag('transpose_b', true)];
    if (rows === 1 && type === 14 && this.oneRow) {
      const { TF_ATTR_INT, TF_ATTR_FLOAT, TF_ATTR_STRING } = this.backend.binding;
      const more: Attribute[] = [
        { name: 'num_args', type: TF_ATTR_INT, value: 1 },
        { name: 'fused_ops', type: TF_ATTR_STRING, value: ['BiasAdd'] },
        { name: 'epsilon', type: TF_ATTR_FLOAT, value: 0.0001 },
        { name: 'leakyrelu_alpha', type: TF_ATTR_FLOAT, value: 0.2 },
        { name: '_kernel', type: TF_ATTR_STRING, value: 'MklNameChangeOp' },
      ];
      return this.run('_MklNativeFusedMatMul', [...transposed, ...more], [x, weight, zeros]);
    }
    return this.run('MatMul', transposed, [x, weight]);
  }

  free(id: number): void {
    this.backend.binding.deleteTensor(id);
  }

  private run(name: string, attributes: readonly Attribute[], inputs: readonly number[]): number {
    return (this.backend.binding.executeOp(name, attributes, inputs, 1)[0] as { id: number }).id;
  }

  private type(name: string, value: number): Attribute {
    return { name, type: this.backend.binding.TF_ATTR_TYPE, value };
  }

  private flag(name: string, value: boolean): Attribute {
    return { name, type: this.backend.binding.TF_ATTR_BOOL, value };
  }
}

/** Random bits of numbers between 2^-7 and 2 of either sign, in both types. */
function randomBytes(count: number, dtype: keyof typeof TYPES): Uint8Array {
  const [smallest, range] = dtype === 'bfloat16' ? [0x3c00, 0x0400] : [0x2000, 0x2000];
  let state = 1;
  const bits = Uint16Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) & 0x8000) | (smallest + ((state >>> 8) % range));
  });
  return new Uint8Array(bits.buffer);
}

/** Lowest milliseconds of each way, in turns. */
function lowest(ways: readonly (() => void)[]): number[] {
  const best = ways.map(() => Number.POSITIVE_INFINITY);
  const end = performance.now() + TIME;
  for (let round = 0; round < LEAST || performance.now() < end; round++) {
    for (const [i, run] of ways.entries()) {
      const begun = performance.now();
      run();
      best[i] = Math.min(best[i] as number, performance.now() - begun);
    }
  }
  return best;
}

async function main(dtype: keyof typeof TYPES): Promise<void> {
  const backend = await useBackend('tensorflow');
  const { factory, warnings } = await choosePrecision(dtype, backend, true);
  const exact = await choosePrecision('float32', backend, true);
  const patched = (tf.findBackend('tensorflow') as unknown as Bare).binding.VISPRUNER_PATCH !== undefined;
  const bare = new BareOperations(patched && warnings.length === 0);
  const rows: string[][] = [];
  for (const [inDim, outDim] of SHAPES) {
    const bytes = randomBytes(inDim * outDim, dtype);
    const stored = { name: 'w', dtype: dtype === 'bfloat16' ? 'BF16' : 'F16', shape: [outDim, inDim], bytes } as const;
    const matrix = await factory.matrix('w', inDim, outDim, stored, { head: false, pause: async () => {} });
    const half = bare.weight(bytes, [outDim, inDim], TYPES[dtype]);
    const full = await exact.factory.matrix('w', inDim, outDim, stored, { head: false, pause: async () => {} });
    const zeros = tf.zeros([outDim]);
    const halfZeros = bare.cast(bare.idOf(zeros), 1, TYPES[dtype]);
    for (const count of ROWS) {
      const x = tf.randomNormal<tf.Rank.R2>([count, inDim]);
      const narrow = bare.cast(bare.idOf(x), 1, TYPES[dtype]);
      const [here, alone, float32] = lowest([
        () => matrix.apply(x).dispose(),
        () => bare.free(bare.product(count, TYPES[dtype], narrow, half, halfZeros)),
        () => full.apply(x).dispose(),
      ]) as [number, number, number];
      const work = 2 * count * inDim * outDim;
      rows.push([
        `${inDim} x ${outDim}`,
        String(count),
        here.toFixed(1),
        (work / here / 1e6).toFixed(0),
        ((2 * inDim * outDim) / here / 1e6).toFixed(1),
        `${((100 * alone) / here).toFixed(0)}%`,
        `${((100 * float32) / here).toFixed(0)}%`,
      ]);
      bare.free(narrow);
      x.dispose();
    }
    for (const id of [half, halfZeros]) bare.free(id);
    full.dispose();
    zeros.dispose();
    matrix.dispose();
  }
  console.log(`Matrices in ${dtype}. ${machine(backend)}${bare.oneRow ? ', one-row product of oneDNN' : ''}`);
  for (const warning of warnings) console.log(warning);
  console.log(`\n${table(['in x out', 'rows', 'here, ms', 'GFLOP/s', 'GB/s of weight', 'rate of bare', 'rate of float32'], rows)}`);
}

main((process.argv[2] as keyof typeof TYPES | undefined) ?? 'bfloat16').catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
