/**
 * Tries one backend in a process of its own, for `doctor` (a process has one backend): node doctor_probe NAME, answers by a message to its parent.
 */
import * as tf from '@tensorflow/tfjs';
import type { Matrix } from '../../layers/parameters';
import { type BackendAttempt, type BackendName, tryBackend } from '../backend/backends';
import { choosePrecision, type WeightDtype } from '../backend/precision';
import { randomBytes } from './doctor_weights';

/** What matrices in one type do here. */
export interface Rate {
  readonly dtype: WeightDtype;
  /** Of a product of many rows, as of a prefill; 10^9 operations a second, a multiply and an add being two. */
  readonly gflops?: number;
  /** Rate at which one row times a weight reads it, as decoding a token does; 10^9 bytes a second. */
  readonly gigabytes?: number;
  /** Why the type can't be had here, or is slow. */
  readonly note?: string;
}

/** The native binding that was loaded. */
export interface BindingReport {
  readonly tensorflow: string;
  /** Version of our additions; 0 in a binding of someone else's. */
  readonly patch: number;
  /** The version that this release was made for. */
  readonly wanted: number;
  readonly device: 'cpu' | 'gpu';
  readonly folder?: string;
}

export interface Probe extends BackendAttempt {
  /** Those of float32. */
  readonly gflops?: number;
  readonly gigabytes?: number;
  readonly rates?: readonly Rate[];
  readonly binding?: BindingReport;
}

/** Time given to a measurement, and the least runs of it. */
const [SECONDS, LEAST] = [0.25, 5];
/** A product that takes less time than this measures its start: a larger one is tried. */
const LEAST_SECONDS = 0.01;
/** Sizes of the product [size / 2, size] x [size, size]. */
const SIZES = [512, 2048, 8192] as const;
/** Weights are read in turns, so that they come from memory and not from a cache. */
const READ = { size: 4096, bytes: 2 ** 27 } as const;
const BYTES: Readonly<Record<WeightDtype, number>> = { float32: 4, bfloat16: 2, float16: 2, int8: 1 };
const STORED = { float32: 'F32', bfloat16: 'BF16', float16: 'F16', int8: 'BF16' } as const;

type Product = (rows: tf.Tensor2D) => tf.Tensor2D;

async function fastest(run: () => tf.Tensor): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  const end = performance.now() + 1000 * SECONDS;
  for (let turn = 0; turn < LEAST || performance.now() < end; turn++) {
    const begun = performance.now();
    const result = run();
    await result.data();
    result.dispose();
    best = Math.min(best, (performance.now() - begun) / 1000);
  }
  return best; // seconds
}

/** Uses `count` weights [size, size] in a type, held as a model holds them. */
async function withWeights<T>(
  backend: BackendName,
  dtype: WeightDtype,
  size: number,
  count: number,
  use: (products: Product[]) => Promise<T>,
): Promise<T> {
  const stored = STORED[dtype];
  const { factory } = await choosePrecision(dtype, backend, dtype === 'int8' ? 'bfloat16' : dtype);
  const matrices: Matrix[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const weight = { name: 'probe', dtype: stored, shape: [size, size], bytes: randomBytes(stored, size * size) };
      matrices.push(await factory.matrix('probe', size, size, weight, { head: false, pause: async () => {} }));
    }
    return await use(matrices.map((matrix) => (rows) => matrix.apply(rows)));
  } finally {
    for (const matrix of matrices) matrix.dispose();
  }
}

async function gflops(backend: BackendName, dtype: WeightDtype): Promise<number> {
  let rate = 0;
  for (const size of SIZES) {
    const seconds = await withWeights(backend, dtype, size, 1, (products) => timed(size / 2, size, products));
    rate = Math.max(rate, size ** 3 / seconds / 1e9);
    if (seconds > LEAST_SECONDS) break;
  }
  return rate;
}

async function gigabytes(backend: BackendName, dtype: WeightDtype): Promise<number> {
  const bytes = READ.size ** 2 * BYTES[dtype];
  return bytes / (await withWeights(backend, dtype, READ.size, READ.bytes / bytes, (products) => timed(1, READ.size, products))) / 1e9;
}

/** Seconds of one product, of several in turns. */
async function timed(count: number, size: number, products: readonly Product[]): Promise<number> {
  const rows = tf.ones<tf.Rank.R2>([count, size]);
  try {
    for (const product of products) {
      const first = product(rows); // a weight goes to the backend at its first use
      await first.data();
      first.dispose();
    }
    let turn = 0;
    return await fastest(() => (products[turn++ % products.length] as Product)(rows));
  } finally {
    rows.dispose();
  }
}

async function rateOf(backend: BackendName, dtype: WeightDtype): Promise<Rate> {
  try {
    const { warnings } = await choosePrecision(dtype, backend, dtype === 'int8' ? 'bfloat16' : dtype);
    return { dtype, gflops: await gflops(backend, dtype), gigabytes: await gigabytes(backend, dtype), note: warnings[0] };
  } catch (error) {
    return { dtype, note: error instanceof Error ? error.message : String(error) };
  }
}

async function bindingReport(): Promise<BindingReport> {
  const [{ bindingVersion }, { nativeDevice }, { nativeFolder }, { PATCH_VERSION }] = await Promise.all([
    import('../backend/native/operations_node'),
    import('../backend/native/processor_node'),
    import('../backend/native/load_node'),
    import('../backend/native/patch'),
  ]);
  return { ...bindingVersion(), wanted: PATCH_VERSION, device: nativeDevice(), folder: nativeFolder() };
}

async function probe(backend: BackendName): Promise<Probe> {
  const attempt = await tryBackend(backend);
  if (!attempt.available) return attempt;
  const sum = (await tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).data())[0];
  if (sum !== 3) return { ...attempt, available: false, reason: `it computes wrongly: 3 expected, ${sum} found.` };
  const native = backend === 'tensorflow' || backend === 'cuda';
  const rates: Rate[] = [];
  for (const dtype of native ? (['float32', 'bfloat16', 'float16', 'int8'] as const) : (['float32'] as const))
    rates.push(await rateOf(backend, dtype));
  const binding = native ? await bindingReport() : undefined;
  return { ...attempt, gflops: rates[0]?.gflops, gigabytes: rates[0]?.gigabytes, rates, binding };
}

void probe(process.argv[2] as BackendName).then((result) => process.send?.(result, () => process.exit(0)));
