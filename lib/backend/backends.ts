import * as tf from '@tensorflow/tfjs';
import { BackendError } from '../../layers/errors';

/** `cuda` and `tensorflow` are tfjs-node's; `wasm` comes with a plain install; `cpu` is plain JavaScript, for tests. */
export type BackendName = 'cuda' | 'tensorflow' | 'webgpu' | 'wasm' | 'cpu';

/** What one backend said when it was tried. */
export interface BackendAttempt {
  readonly backend: BackendName;
  readonly available: boolean;
  /** Why it is absent, and what to do about it. */
  readonly reason?: string;
}

/** Fastest first. */
export const BACKENDS: readonly BackendName[] = ['cuda', 'tensorflow', 'webgpu', 'wasm', 'cpu'];

const isNode = typeof process !== 'undefined' && process.versions?.node !== undefined;

/** Kept with tfjs's engine, of which there is one a process: a second copy of this library, in another package's node_modules, sees it too. */
const CLAIM = Symbol.for('vispruner.backend');
const engine = (): { [CLAIM]?: BackendName } => tf.engine() as { [CLAIM]?: BackendName };

/**
 * Starts a backend, or returns the one that runs: there is one a process (or worker).
 * `auto` takes the one that the host has set with `tf.setBackend`, unless that is plain JavaScript, else the fastest that works.
 *
 * @throws BackendError `BACKEND_UNAVAILABLE`, `SECOND_BACKEND`, `UNKNOWN_BACKEND`
 */
export async function useBackend(name: BackendName | 'auto' = 'auto'): Promise<BackendName> {
  if (name !== 'auto' && !BACKENDS.includes(name)) {
    throw new BackendError('UNKNOWN_BACKEND', `Unknown backend "${String(name)}". Known: auto, ${BACKENDS.join(', ')}.`);
  }
  const chosen = currentBackend();
  if (chosen !== undefined) {
    if (name === 'auto' || name === chosen) return chosen;
    throw new BackendError(
      'SECOND_BACKEND',
      `Backend "${name}" was asked for, but this process runs on "${chosen}": tensors of two backends do not mix. Use another process or worker.`,
    );
  }
  const reasons: string[] = [];
  for (const backend of name === 'auto' ? automatic() : [name]) {
    const attempt = await tryBackend(backend);
    if (attempt.available) {
      engine()[CLAIM] = backend;
      return backend;
    }
    reasons.push(`${backend}: ${attempt.reason}`);
  }
  throw new BackendError('BACKEND_UNAVAILABLE', `No backend works here. ${reasons.join(' ')}`);
}

/** The backend in use, if one was started. */
export function currentBackend(): BackendName | undefined {
  return engine()[CLAIM];
}

function automatic(): readonly BackendName[] {
  const active = tf.getBackend();
  if (active === 'tensorflow') return ['cuda', 'tensorflow'];
  return active === 'wasm' || active === 'webgpu' ? [active] : BACKENDS.filter((one) => one !== 'cpu');
}

/** Makes a backend the active one of tfjs, if it works; does not claim it for the process. */
export async function tryBackend(backend: BackendName): Promise<BackendAttempt> {
  try {
    const reason = await PREPARE[backend]();
    if (reason !== undefined) return { backend, available: false, reason };
    const registered = backend === 'cuda' ? 'tensorflow' : backend;
    // setBackend answers false on failure, and later operations would run on "cpu" without a word.
    if ((await tf.setBackend(registered)) !== true) return { backend, available: false, reason: 'it failed to initialise.' };
    await tf.ready();
    return { backend, available: true };
  } catch (error) {
    return { backend, available: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Loads what registers the backend; returns why it can't be used. */
const PREPARE: Readonly<Record<BackendName, () => Promise<string | undefined>>> = {
  async cuda() {
    return (await nativeDevice()) === 'gpu' ? undefined : 'no tfjs-node-gpu with a CUDA device is installed here.';
  },
  async tensorflow() {
    return (await nativeDevice()) === undefined ? 'tfjs-node is not installed here; "npm run native" builds it.' : undefined;
  },
  async webgpu() {
    if (typeof navigator === 'undefined' || !('gpu' in navigator)) return 'this platform has no WebGPU.';
    return tf.findBackendFactory('webgpu') ? undefined : 'import "@tensorflow/tfjs-backend-webgpu" first.';
  },
  async wasm() {
    if (isNode) await (await import('./wasm_node')).prepareWasm();
    else await import('@tensorflow/tfjs-backend-wasm');
    return undefined;
  },
  async cpu() {
    const backend = tf.findBackend('cpu') as { firstUse?: boolean } | null;
    if (backend) backend.firstUse = false; // or it prints an advertisement for tfjs-node at its first operation
    return undefined;
  },
};

async function nativeDevice(): Promise<'cpu' | 'gpu' | undefined> {
  if (!isNode) return undefined;
  const { loadNative } = await import('./native/load_node');
  if (!loadNative()) return undefined;
  const backend = tf.findBackend('tensorflow') as { isUsingGpuDevice?: boolean } | null;
  return backend?.isUsingGpuDevice ? 'gpu' : 'cpu';
}
