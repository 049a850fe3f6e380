import * as tf from '@tensorflow/tfjs';
import { tryBackend } from '../../lib/backend/backends';
import { loadNative } from '../../lib/backend/native/load_node';

/** `describe` where the native backend is installed; elsewhere the tests are skipped under a title that says why. */
export function describeNative(title: string, tests: () => void): void {
  if (nativeInstalled()) describe(title, tests);
  else describe.skip(`${title} (skipped: tfjs-node is not installed; "npm run native" builds it)`, tests);
}

export function nativeInstalled(): boolean {
  return loadNative() !== undefined;
}

export async function useNative(): Promise<void> {
  const { available, reason } = await tryBackend('tensorflow');
  if (!available) throw new Error(`the native backend did not start: ${reason}`);
}

/** Tensors that TensorFlow itself holds: what tfjs does not count may leak there. */
export function nativeTensors(): number {
  return (tf.findBackend('tensorflow') as unknown as { binding: { getNumOfTensors(): number } }).binding.getNumOfTensors();
}

/** Runs something and fails when it leaves tensors behind, tfjs's or TensorFlow's. */
export async function withoutNativeLeaks<T>(run: () => Promise<T>): Promise<T> {
  const before = [tf.memory().numTensors, nativeTensors()];
  const result = await run();
  expect([tf.memory().numTensors, nativeTensors()]).toEqual(before);
  return result;
}
