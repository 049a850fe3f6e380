/**
 * Tries one backend in a process of its own, for `doctor` (a process has one backend): node doctor_probe NAME, answers by a message to its parent.
 */
import * as tf from '@tensorflow/tfjs';
import { type BackendAttempt, type BackendName, tryBackend } from '../backend/backends';

export interface Probe extends BackendAttempt {
  /** Rate of a float32 product [256, 512] x [512, 512], as of a prefill; 10^9 operations a second, a multiply and an add being two. */
  readonly gflops?: number;
  /** Rate at which one row times [4096, 4096] reads its float32 weights, as decoding a token does; 10^9 bytes a second. */
  readonly gigabytes?: number;
  readonly version?: string;
}

const SECONDS = 0.25;

async function fastest(run: () => tf.Tensor): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  const end = performance.now() + 1000 * SECONDS;
  do {
    const begun = performance.now();
    const result = run();
    await result.data();
    result.dispose();
    best = Math.min(best, (performance.now() - begun) / 1000);
  } while (performance.now() < end);
  return best; // seconds
}

async function product(rows: number, inner: number, columns: number): Promise<number> {
  const [x, weight] = [tf.ones([rows, inner]), tf.ones([inner, columns])];
  const warmUp = tf.matMul(x, weight);
  await warmUp.data();
  warmUp.dispose();
  const seconds = await fastest(() => tf.matMul(x, weight));
  tf.dispose([x, weight]);
  return seconds;
}

async function probe(name: BackendName): Promise<Probe> {
  const attempt = await tryBackend(name);
  if (!attempt.available) return attempt;
  const sum = (await tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).data())[0];
  if (sum !== 3) return { ...attempt, available: false, reason: `it computes wrongly: 3 expected, ${sum} found.` };
  const gflops = (2 * 256 * 512 * 512) / (await product(256, 512, 512)) / 1e9;
  const gigabytes = (4 * 4096 * 4096) / (await product(1, 4096, 4096)) / 1e9;
  return { ...attempt, gflops, gigabytes };
}

void probe(process.argv[2] as BackendName).then((result) => process.send?.(result, () => process.exit(0)));
