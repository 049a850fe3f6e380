import * as tf from '@tensorflow/tfjs';
import { type BackendName, choosePrecision, type Matrix, type WeightDtype } from '../lib/index';
import { randomBytes } from './bare_operations';

const SIZE = 4096;
/** Weights in turns: more than the caches of a GPU or a processor hold. */
const COUNT = 8;
const SECONDS = 1;
const BYTES = { float32: 4, bfloat16: 2, float16: 2, int8: 1 } as const;

/** How fast some rows are multiplied by weights of a type. Products are queued on a GPU, so many are timed together, up to a value that is read. */
export async function rates(rows: number, dtype: WeightDtype, backend: BackendName): Promise<string> {
  const stored = dtype === 'float16' ? 'float16' : 'bfloat16';
  const { factory } = await choosePrecision(dtype, backend, stored);
  const matrices: Matrix[] = [];
  for (let i = 0; i < COUNT; i++) {
    const weight = { name: 'w', dtype: stored === 'float16' ? 'F16' : 'BF16', shape: [SIZE, SIZE], bytes: randomBytes(SIZE * SIZE, stored) } as const;
    matrices.push(await factory.matrix('w', SIZE, SIZE, weight, { head: false, pause: async () => {} }));
  }
  const x = tf.randomNormal<tf.Rank.R2>([rows, SIZE]);
  const round = async () => {
    for (const [i, matrix] of matrices.entries()) {
      const product = matrix.apply(x);
      if (i === COUNT - 1) await product.data();
      product.dispose();
    }
  };
  await round();
  let best = Number.POSITIVE_INFINITY;
  for (const end = performance.now() + 1000 * SECONDS; performance.now() < end; ) {
    const begun = performance.now();
    await round();
    best = Math.min(best, performance.now() - begun);
  }
  x.dispose();
  for (const matrix of matrices) matrix.dispose();
  const milliseconds = best / COUNT;
  const [gflops, gigabytes] = [(2 * rows * SIZE * SIZE) / milliseconds / 1e6, (BYTES[dtype] * SIZE * SIZE) / milliseconds / 1e6];
  return `${milliseconds.toFixed(3)} ms, ${gflops.toFixed(0)} GFLOP/s, ${gigabytes.toFixed(0)} GB/s of weights`;
}
