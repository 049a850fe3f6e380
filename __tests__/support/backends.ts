import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import type { BackendName } from '../../lib/backend/backends';
import { nativeInstalled, useNative } from './native';
import { useWebgpu } from './webgpu';

/** The only one that is wanted, where somebody says so: VISPRUNER_TEST_BACKEND=webgpu npx jest -t webgpu */
const WANTED = process.env.VISPRUNER_TEST_BACKEND as BackendName | undefined;

/** What ships, tfjs's own JavaScript one, which computes by other routes, and the native one where it is installed. */
const EVERYWHERE: readonly BackendName[] = ['wasm', 'cpu', ...(nativeInstalled() ? (['tensorflow'] as const) : [])];
export const BACKENDS: readonly BackendName[] = WANTED ? [WANTED] : EVERYWHERE;

export async function useBackend(name: BackendName): Promise<void> {
  if (name === 'tensorflow') return useNative();
  if (name === 'webgpu') return useWebgpu();
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
