import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs';
import { BackendError } from '../../../layers/errors';

/** The folder `.native` of the nearest directory above the working directory or this file that has one. */
function nativeFolder(): string | undefined {
  for (const start of [process.cwd(), __dirname]) {
    for (let folder = start; ; folder = path.dirname(folder)) {
      const candidate = path.join(folder, '.native', 'node_modules', '@tensorflow', 'tfjs-node');
      if (fs.existsSync(candidate)) return candidate;
      if (folder === path.dirname(folder)) break;
    }
  }
  return undefined;
}

/** tfjs-node 4.22 calls two functions of `util` that Node 23 removed. The module itself is mended: `import *` would hand out a copy. */
function mendUtil(): void {
  const target = util as unknown as Record<string, unknown>;
  target.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  target.isArray ??= Array.isArray;
}

/**
 * Registers the backend "tensorflow" with this process's tfjs and returns tfjs, or undefined where tfjs-node is not installed.
 * It looks into `.native` (made by `npm run native`) first and into `node_modules` second.
 *
 * @throws BackendError (`NATIVE_LOAD`) when tfjs-node is there but can't be loaded; (`NATIVE_TWO_TFJS`) when it brings a second tfjs.
 */
export function loadNative(): typeof tf | undefined {
  if (tf.findBackendFactory('tensorflow') !== null) return tf;
  const local = createRequire(__filename);
  let entry = nativeFolder();
  if (entry === undefined) {
    try {
      entry = path.dirname(local.resolve('@tensorflow/tfjs-node/package.json'));
    } catch {
      return undefined;
    }
  }
  mendUtil();
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  try {
    local(entry);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new BackendError(
      'NATIVE_LOAD',
      `tfjs-node is at ${entry} but does not load: ${reason}. Build it again with "npm run native", or remove that folder to use wasm.`,
      { cause },
    );
  }
  if (tf.findBackendFactory('tensorflow') === null) {
    throw new BackendError(
      'NATIVE_TWO_TFJS',
      `tfjs-node at ${entry} uses a tfjs of its own, so its backend is not visible here. Remove the other @tensorflow folders beside it (npm run native does).`,
    );
  }
  return tf;
}
