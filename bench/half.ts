/**
 * Products with matrices in reduced precision against the bare operations of TensorFlow, in one run, alternating:
 *
 *   npm run bench:half [-- bfloat16|float16|int8]
 *
 * "here": Matrix.apply, float32 rows in and out. "bare": TensorFlow's MatMul alone, of rows and weight that are in half precision already (bfloat16 for
 * int8; for one row in bfloat16 oneDNN's own operation, where the processor multiplies in it). "float32": Matrix.apply with dtype "float32".
 * Lowest of several rounds; on a shared machine the ratios say more than the times.
 */
import { existsSync, readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import { choosePrecision, useBackend } from '../lib/index';
import { BareOperations, bindingPatch, randomBytes, TYPES } from './bare_operations';
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

/** oneDNN's operation for one row ends the process where the processor does not multiply in bfloat16. */
function hasOneRow(): boolean {
  return bindingPatch() > 0 && existsSync('/proc/cpuinfo') && /avx512_bf16|amx_bf16/.test(readFileSync('/proc/cpuinfo', 'utf8'));
}

const BYTES = { bfloat16: 2, float16: 2, int8: 1 } as const;
type Dtype = keyof typeof BYTES;

async function main(dtype: Dtype): Promise<void> {
  const half = dtype === 'int8' ? 'bfloat16' : dtype; // as the weight is stored
  const backend = await useBackend('tensorflow');
  const { factory, warnings } = await choosePrecision(dtype, backend, half);
  const exact = await choosePrecision('float32', backend, 'float32');
  const bare = new BareOperations(hasOneRow());
  const rows: string[][] = [];
  for (const [inDim, outDim] of SHAPES) {
    const bytes = randomBytes(inDim * outDim, half);
    const stored = { name: 'w', dtype: half === 'bfloat16' ? 'BF16' : 'F16', shape: [outDim, inDim], bytes } as const;
    const matrix = await factory.matrix('w', inDim, outDim, stored, { head: false, pause: async () => {} });
    const weight = bare.weight(bytes, [outDim, inDim], TYPES[half]);
    const full = await exact.factory.matrix('w', inDim, outDim, stored, { head: false, pause: async () => {} });
    const zeros = tf.zeros([outDim]);
    const halfZeros = bare.cast(bare.idOf(zeros), 1, TYPES[half]);
    for (const count of ROWS) {
      const x = tf.randomNormal<tf.Rank.R2>([count, inDim]);
      const narrow = bare.cast(bare.idOf(x), 1, TYPES[half]);
      const [here, alone, float32] = lowest([
        () => matrix.apply(x).dispose(),
        () => bare.free(bare.product(count, TYPES[half], narrow, weight, halfZeros)),
        () => full.apply(x).dispose(),
      ]) as [number, number, number];
      const work = 2 * count * inDim * outDim;
      rows.push([
        `${inDim} x ${outDim}`,
        String(count),
        here.toFixed(1),
        (work / here / 1e6).toFixed(0),
        ((BYTES[dtype] * inDim * outDim) / here / 1e6).toFixed(1),
        `${((100 * alone) / here).toFixed(0)}%`,
        `${((100 * float32) / here).toFixed(0)}%`,
      ]);
      bare.free(narrow);
      x.dispose();
    }
    for (const id of [weight, halfZeros]) bare.free(id);
    full.dispose();
    zeros.dispose();
    matrix.dispose();
  }
  console.log(`Matrices in ${dtype}. ${machine(backend)}${bare.oneRow ? ', one-row product of oneDNN' : ''}`);
  for (const warning of warnings) console.log(warning);
  console.log(`\n${table(['in x out', 'rows', 'here, ms', 'GFLOP/s', 'GB/s of weight', 'rate of bare', 'rate of float32'], rows)}`);
}

main((process.argv[2] as Dtype | undefined) ?? 'bfloat16').catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
