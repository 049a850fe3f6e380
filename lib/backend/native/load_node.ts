import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs';
import { BackendError } from '../../../layers/errors';
import { HOST_TFJS, installedRoots, rootOf, tfjsNodeIn } from './folders';

/** What a user may have installed; the GPU's first. */
const PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;

const INSTALL = 'Install it again with "vispruner doctor --install-native"';

/**
 * tfjs-node 4.22 calls two functions of `util` that Node 22 warns of and Node 23 removed. The module itself is mended: `import *` would hand out a copy.
 */
function mendUtil(): void {
  Object.assign(util, { isNullOrUndefined: (value: unknown) => value === null || value === undefined, isArray: Array.isArray });
}

/** Where a tfjs-node may be loaded from, best first: what `vispruner doctor --install-native` made, then the user's own packages. */
function entries(resolve: NodeJS.RequireResolve): string[] {
  const own = PACKAGES.flatMap((name) => {
    try {
      return [path.dirname(resolve(`${name}/package.json`))];
    } catch {
      return [];
    }
  });
  return [...installedRoots().map(tfjsNodeIn), ...own];
}

let loadedFrom: string | undefined;

/** The folder of the tfjs-node that was loaded, if one was. */
export function nativeFolder(): string | undefined {
  return loadedFrom;
}

/** Whether what was loaded can use a GPU, if it finds one. */
export function isForGpu(): boolean {
  if (loadedFrom === undefined) return false;
  return path.basename(loadedFrom) === 'tfjs-node-gpu' || fs.existsSync(path.join(rootOf(loadedFrom), 'nvidia'));
}

/**
 * Registers the backend "tensorflow" with this process's tfjs and returns tfjs, or undefined where no tfjs-node is installed.
 * It looks into the folder that VISPRUNER_NATIVE names and nowhere else; without that into `.native` of a checkout, into the user's cache, and for
 * `@tensorflow/tfjs-node-gpu` and `@tensorflow/tfjs-node` among the installed packages. The first that loads is taken.
 *
 * @throws BackendError (`NATIVE_LOAD`) when there are some but none can be loaded; (`NATIVE_TWO_TFJS`) when one brings a second tfjs.
 */
export function loadNative(): typeof tf | undefined {
  if (tf.findBackendFactory('tensorflow') !== null) return tf;
  const local = createRequire(__filename);
  mendUtil();
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  process.env.TF_FORCE_GPU_ALLOW_GROWTH ??= 'true'; // else TensorFlow takes all of a GPU's memory when it starts
  (globalThis as Record<symbol, unknown>)[Symbol.for(HOST_TFJS)] = local('@tensorflow/tfjs');
  const failures: { entry: string; cause: unknown }[] = [];
  for (const entry of entries(local.resolve)) {
    try {
      local(entry);
      loadedFrom = entry;
      break;
    } catch (cause) {
      failures.push({ entry, cause });
    }
  }
  if (loadedFrom !== undefined && tf.findBackendFactory('tensorflow') === null) {
    throw new BackendError(
      'NATIVE_TWO_TFJS',
      `tfjs-node at ${loadedFrom} uses a tfjs of its own, so its backend is not visible here. ${INSTALL}, or let both find one @tensorflow/tfjs (npm dedupe).`,
    );
  }
  if (loadedFrom === undefined && failures.length > 0) throw unloadable(failures);
  return loadedFrom === undefined ? undefined : tf;
}

function unloadable(failures: readonly { entry: string; cause: unknown }[]): BackendError {
  const reasons = failures.map(({ entry, cause }) => {
    if (!fs.existsSync(entry)) return `${entry} does not exist`;
    return `${entry} does not load: ${String(cause instanceof Error ? cause.message : cause)
      .split('\n')[0]
      ?.replace(/[\s.]+$/, '')}`;
  });
  return new BackendError('NATIVE_LOAD', `tfjs-node is not usable: ${reasons.join('; ')}. ${INSTALL}, or remove that folder to use wasm.`, {
    cause: failures[0]?.cause,
  });
}
