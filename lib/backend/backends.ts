import * as tf from '@tensorflow/tfjs';
import { BackendError } from '../../layers/errors';
import type { WebgpuDevice } from './webgpu';

/** `cuda` and `tensorflow` are tfjs-node's; `wasm` comes with a plain install; `cpu` is plain JavaScript, for tests. */
export type BackendName = 'cuda' | 'tensorflow' | 'webgpu' | 'wasm' | 'cpu';

/** What one backend said when it was tried. */
export interface BackendAttempt {
  readonly backend: BackendName;
  readonly available: boolean;
  /** Why it is absent, and what to do about it. */
  readonly reason?: string;
  /** The driver of a "GPU" that is the processor (webgpu): works when named, `auto` never takes it. */
  readonly software?: string;
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
    const attempt = await tryBackend(backend, { automatic: name === 'auto' });
    if (attempt.available) {
      engine()[CLAIM] = backend;
      return backend;
    }
    reasons.push(`${backend}: ${attempt.reason}`);
  }
  const help = isNode ? ' "vispruner doctor" says what to do.' : '';
  throw new BackendError('BACKEND_UNAVAILABLE', `No backend works here. ${reasons.join(' ')}${help}`);
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

/** Makes a backend the active one of tfjs, if it works; does not claim it for the process. `automatic`: not one that computes in software. */
export async function tryBackend(backend: BackendName, { automatic = false }: { readonly automatic?: boolean } = {}): Promise<BackendAttempt> {
  try {
    if (backend === 'webgpu') return await startWebgpu(automatic);
    const reason = await PREPARE[backend]();
    if (reason !== undefined) return { backend, available: false, reason };
    const registered = backend === 'cuda' ? 'tensorflow' : backend;
    // setBackend answers false on failure, and later operations would run on "cpu" without a word.
    if ((await tf.setBackend(registered)) !== true) return { backend, available: false, reason: 'it failed to initialise.' };
    await tf.ready();
    if (registered === 'tensorflow') (await import('./native/fused_node')).registerNativeOperations();
    return { backend, available: true };
  } catch (error) {
    return { backend, available: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Loads what registers the backend; returns why it can't be used. */
const PREPARE: Readonly<Record<Exclude<BackendName, 'webgpu'>, () => Promise<string | undefined>>> = {
  async cuda() {
    const device = await nativeDevice();
    if (device === 'gpu') return undefined;
    if (device === undefined || !(await import('./native/load_node')).isForGpu()) return 'no binding for CUDA is installed here.';
    return 'the binding for CUDA finds no GPU: see what nvidia-smi says, and TensorFlow with TF_CPP_MIN_LOG_LEVEL=0.';
  },
  async tensorflow() {
    return (await nativeDevice()) === undefined ? 'it is not installed here.' : undefined;
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

/** A host that has started webgpu itself has chosen its adapter. */
async function startWebgpu(automatic: boolean): Promise<BackendAttempt> {
  const backend = 'webgpu';
  const chosen = tf.getBackend() === backend;
  const node = isNode && !chosen ? await import('./webgpu_node') : undefined;
  try {
    const missing = node?.provideWebgpu(automatic);
    if (missing !== undefined) return { backend, available: false, reason: missing };
    const { findWebgpu, tuneWebgpu } = await import('./webgpu');
    const { reason, software }: WebgpuDevice = chosen ? {} : await findWebgpu();
    if (reason !== undefined) return { backend, available: false, reason };
    if (automatic && software !== undefined)
      return { backend, available: false, reason: `${software} computes on the processor; name the backend to use it.`, software };
    if ((await tf.setBackend(backend)) !== true) return { backend, available: false, reason: 'it failed to initialise.' };
    await tf.ready();
    tuneWebgpu(software !== undefined);
    return { backend, available: true, software };
  } finally {
    node?.withdrawWebgpu();
  }
}

async function nativeDevice(): Promise<'cpu' | 'gpu' | undefined> {
  if (!isNode) return undefined;
  const { loadNative } = await import('./native/load_node');
  if (!loadNative()) return undefined;
  const backend = tf.findBackend('tensorflow') as { isUsingGpuDevice?: boolean } | null;
  return backend?.isUsingGpuDevice ? 'gpu' : 'cpu';
}
