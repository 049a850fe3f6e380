import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';

const PACKAGES = ['webgpu', '@tensorflow/tfjs-backend-webgpu'] as const;

/** The mark of a `navigator` that this file has made. */
const OURS = Symbol('vispruner.navigator');

/** Dawn ends with the last reference to this, and takes the process along if a device is still in use. */
let held: object | undefined;

/** Dawn on Linux computes by Vulkan. */
const LOADER = 'libvulkan.so.1';

/**
 * Gives Node the WebGPU of npm's `webgpu` (Dawn), where it has none, and registers tfjs's backend on it.
 * @param automatic it was not asked for: Dawn is not started where it would only complain on stderr that there is no Vulkan
 * @returns why it can't be used, and what to do about it
 */
export function provideWebgpu(automatic: boolean): string | undefined {
  const local = createRequire(__filename);
  const [dawn, backend] = PACKAGES;
  const needed = hasGpu() ? [backend] : PACKAGES;
  const missing = needed.filter((name) => !isInstalled(local, name));
  if (missing.length > 0) {
    const names = missing.map((name) => (name === backend ? `${backend}@${tf.version.tfjs}` : name));
    return `it needs ${missing.join(' and ')}: npm install ${names.join(' ')}`;
  }
  if (automatic && !hasGpu() && !mayHaveVulkan()) return `there is no ${LOADER} here: WebGPU needs a GPU's Vulkan driver and that loader.`;
  if (!hasGpu()) {
    const { create, globals } = local(dawn) as { create(options: string[]): object; globals: object };
    Object.assign(globalThis, globals); // tfjs looks for GPUBuffer and its kin there
    held ??= create([]);
    if (typeof navigator === 'undefined')
      Object.defineProperty(globalThis, 'navigator', { value: { [OURS]: true }, configurable: true, writable: true });
    Object.defineProperty(navigator, 'gpu', { value: held, configurable: true });
  }
  if (tf.findBackendFactory('webgpu') === null) local(backend);
  if (tf.findBackendFactory('webgpu') === null)
    return `${backend} uses a tfjs of its own: install ${backend}@${tf.version.tfjs}, and remove the other tfjs.`;
  return undefined;
}

/** Takes back what tfjs needs while it starts only: other packages take a process with a `navigator` for a page. */
export function withdrawWebgpu(): void {
  if (!hasGpu() || (navigator as { readonly gpu?: object }).gpu !== held) return;
  if (OURS in navigator) Reflect.deleteProperty(globalThis, 'navigator');
  else Reflect.deleteProperty(navigator, 'gpu');
}

function hasGpu(): boolean {
  return typeof navigator !== 'undefined' && Boolean((navigator as { readonly gpu?: object }).gpu);
}

/** Whether a library could find Vulkan's loader, as far as can be told without loading it. */
function mayHaveVulkan(): boolean {
  if (process.platform !== 'linux') return true;
  const folders = [...(process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean), '/lib', '/lib64', '/usr/lib', '/usr/lib64', '/usr/local/lib'];
  if (folders.some((folder) => fs.existsSync(path.join(folder, LOADER)))) return true;
  try {
    return fs.readFileSync('/etc/ld.so.cache', 'latin1').includes(LOADER); // of the folders that this system looks into besides
  } catch {
    return true; // a system that keeps no such list
  }
}

function isInstalled(local: NodeJS.Require, name: string): boolean {
  try {
    local.resolve(name);
    return true;
  } catch {
    return false;
  }
}
