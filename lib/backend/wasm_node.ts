import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';

type Handler = 'uncaughtException' | 'unhandledRejection';
const HANDLERS: readonly Handler[] = ['uncaughtException', 'unhandledRejection'];

/**
 * Starts the wasm backend from the files beside its package.
 * Its start-up adds process-wide error handlers that rethrow, which would defeat a server's own: exactly those are taken away again.
 */
export async function prepareWasm(): Promise<void> {
  if (tf.getBackend() === 'wasm') return; // the host has started it
  setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json'))}${path.sep}dist${path.sep}`);
  const before = new Map(HANDLERS.map((name) => [name, process.listeners(name as 'uncaughtException')]));
  const started = await tf.setBackend('wasm');
  for (const name of HANDLERS) {
    for (const listener of process.listeners(name as 'uncaughtException')) {
      if (!before.get(name)?.includes(listener)) process.removeListener(name, listener);
    }
  }
  if (started !== true) throw new Error('the wasm module failed to start.');
}
