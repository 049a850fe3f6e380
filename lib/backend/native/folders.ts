import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { PATCH_VERSION } from './patch';

/**
 * What a native folder holds: the binding with our additions on the processor or on an NVIDIA GPU, or TensorFlow.js's own (`stock`).
 *
 *   node_modules   tfjs-node with its compiled binding; the last that comes into place
 *   tensorflow     TensorFlow's library and headers; not in `stock`, which has them in tfjs-node
 *   nvidia         CUDA's libraries, in `cuda`
 */
export type Flavour = 'cpu' | 'cuda' | 'stock';

const NAMES: Readonly<Record<Flavour, string>> = { cpu: `native-${PATCH_VERSION}`, cuda: `native-cuda-${PATCH_VERSION}`, stock: 'native-stock' };

/** The symbol under which the loader hands its tfjs to tfjs-node in a native folder, which has none of its own. */
export const HOST_TFJS = 'vispruner.tfjs';

/** tfjs-node in a native folder. */
export function tfjsNodeIn(root: string): string {
  return path.join(root, 'node_modules', '@tensorflow', 'tfjs-node');
}

/** The native folder of a tfjs-node. */
export function rootOf(tfjsNode: string): string {
  return path.resolve(tfjsNode, '..', '..', '..');
}

/** The compiled binding of a tfjs-node. */
export function bindingIn(tfjsNode: string): string {
  return path.join(tfjsNode, 'lib', 'napi-v8', 'tfjs_binding.node');
}

/** The folder that the environment names, if it does. */
export function namedRoot(): string | undefined {
  const { VISPRUNER_NATIVE } = process.env;
  return VISPRUNER_NATIVE ? path.resolve(VISPRUNER_NATIVE) : undefined;
}

/** `.native` of the checkout that this file lies in; undefined in an installed package. */
function checkoutRoot(): string | undefined {
  if (path.extname(__filename) !== '.ts') return undefined;
  return path.resolve(__dirname, '..', '..', '..', '.native');
}

/** Where all projects of a user share it; `npm ci` leaves it alone. A version of its own for each version of our additions. */
export function sharedFolder(): string {
  return path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'vispruner');
}

/** Where an installation goes. */
export function installRoot(flavour: Flavour): string {
  const checkout = flavour === 'cpu' ? checkoutRoot() : undefined;
  return namedRoot() ?? checkout ?? path.join(sharedFolder(), NAMES[flavour]);
}

/** The native folders that are complete, best first. One that the environment names is the only one. */
export function installedRoots(): string[] {
  const named = namedRoot();
  if (named !== undefined) return [named];
  const shared = (['cuda', 'cpu', 'stock'] as const).map((flavour) => path.join(sharedFolder(), NAMES[flavour]));
  return [checkoutRoot(), ...shared].filter((root) => root !== undefined).filter((root) => fs.existsSync(tfjsNodeIn(root)));
}
