import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as os from 'node:os';
import * as path from 'node:path';
import * as vm from 'node:vm';
import * as tf from '@tensorflow/tfjs';
import { tryBackend } from '../../lib/backend/backends';

/** Where Debian's `chromium` has SwiftShader, a Vulkan driver that computes on the processor, and the Vulkan loader. */
const FOLDERS = ['/usr/lib/chromium', '/usr/lib/chromium-browser'];
const DRIVER = 'libvk_swiftshader.so';
const LOADER = 'libvulkan.so.1';

const folder = FOLDERS.find((one) => fs.existsSync(path.join(one, DRIVER)));

/** Why webgpu can't be tested here. With VISPRUNER_TEST_GPU=1 the machine's own GPU is taken. */
export const WEBGPU_HINDRANCE: string | undefined = hindrance();

/** `describe` where there is a WebGPU; elsewhere the tests are skipped under a title that says why. */
export function describeWebgpu(title: string, tests: () => void): void {
  if (WEBGPU_HINDRANCE === undefined) describe(title, tests);
  else describe.skip(`${title} (skipped: ${WEBGPU_HINDRANCE})`, tests);
}

/** The variables with which a child process finds SwiftShader. */
export function swiftShaderVariables(): Record<string, string> {
  if (folder === undefined || process.env.VISPRUNER_TEST_GPU === '1') return {};
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'vispruner-swiftshader-')), 'icd.json');
  fs.writeFileSync(file, JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: path.join(folder, DRIVER), api_version: '1.0.5' } }));
  return { VK_ICD_FILENAMES: file, LD_LIBRARY_PATH: [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':') };
}

/** Starts webgpu in this process. Jest's modules can't load the package, which is an ES module, and see a copy of the environment: both are got around. */
export async function useWebgpu(): Promise<void> {
  if (tf.getBackend() === 'webgpu') return;
  const real = vm.runInThisContext('process') as NodeJS.Process;
  Object.assign(real.env, swiftShaderVariables());
  if (folder !== undefined) keepLoaded(real, path.join(folder, LOADER));
  const load = (vm.runInThisContext('process.getBuiltinModule("node:module")') as { createRequire: typeof createRequire }).createRequire(__filename);
  const { create, globals } = load('webgpu') as { create(options: string[]): object; globals: object };
  Object.assign(globalThis, globals);
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: create([]) }, configurable: true });
  const { available, reason } = await tryBackend('webgpu');
  if (!available) throw new Error(`webgpu did not start: ${reason}`);
}

/** A library that is loaded is found by its name, also where its folder is not searched. It is no addon, which Node reports after loading it. */
function keepLoaded(real: NodeJS.Process, library: string): void {
  const [lazily, forGood] = [1, 0x1000];
  try {
    real.dlopen({ exports: {} }, library, lazily | forGood);
  } catch {}
}

function hindrance(): string | undefined {
  try {
    createRequire(__filename).resolve('webgpu');
  } catch {
    return 'npm\'s "webgpu" is not installed';
  }
  if (process.env.VISPRUNER_TEST_GPU === '1') return undefined;
  if (process.platform !== 'linux') return 'SwiftShader is looked for on Linux only; VISPRUNER_TEST_GPU=1 takes the GPU';
  return folder === undefined ? `no ${DRIVER} in ${FOLDERS.join(' or ')} (Debian's package "chromium" has it)` : undefined;
}
