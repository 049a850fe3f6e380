import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';

/** The backends that every machine has: what ships, and tfjs's own JavaScript one, which computes by other routes. */
export const BACKENDS = ['wasm', 'cpu'] as const;

export async function useBackend(name: (typeof BACKENDS)[number]): Promise<void> {
  if (name === 'wasm') setWasmPaths(join(dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json')), 'dist/'));
  if (!(await tf.setBackend(name))) throw new Error(`the ${name} backend did not start`);
  await tf.ready();
}

/** Runs something and fails when it leaves tensors behind, or takes some away. */
export async function withoutLeaks<T>(run: () => Promise<T>): Promise<T> {
  const before = tf.memory().numTensors;
  const result = await run();
  const after = tf.memory().numTensors;
  if (after !== before) throw new Error(`${after - before} tensors more than before (${before})`);
  return result;
}
