import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { bindingIn, tfjsNodeIn } from '../folders';
import { patched } from '../patch';
import { compiler } from './requirements';
import { type Report, runCommand } from './steps';

const KERNELS = path.join(__dirname, '..', 'kernels');

/** From lib/napi-v8 of tfjs-node in node_modules to the folder `tensorflow` beside node_modules. */
const TO_TENSORFLOW = '$ORIGIN/../../../../../tensorflow';

export interface CompileOptions {
  /** With our operations and mark; without, it is tfjs-node's own binding. */
  readonly additions: boolean;
  readonly report: Report;
  readonly signal?: AbortSignal;
}

/** Compiles tfjs-node's binding against the TensorFlow in a folder. */
export async function compileBinding(folder: string, { additions, report, signal }: CompileOptions): Promise<void> {
  report('Compiling the binding');
  const tfjsNode = tfjsNodeIn(folder);
  const scratch = path.join(folder, 'compile');
  await mkdir(scratch, { recursive: true });
  const sources: string[] = [];
  for (const file of ['tfjs_backend.cc', 'tfjs_binding.cc']) {
    const text = await readFile(path.join(tfjsNode, 'binding', file), 'utf8');
    sources.push(path.join(scratch, file));
    await writeFile(path.join(scratch, file), additions ? patched(file, text) : text);
  }
  if (additions) sources.push(...(await readdir(KERNELS)).filter((name) => name.endsWith('.cc')).map((name) => path.join(KERNELS, name)));
  const headers = [
    path.join(folder, 'node_modules', 'node-api-headers', 'include'),
    tfjsNode,
    path.join(tfjsNode, 'binding'),
    path.join(folder, 'tensorflow', 'include'),
  ];
  const flags = ['-O3', '-fPIC', '-std=c++17', '-pthread', '-DNAPI_VERSION=8', ...headers.map((header) => `-I${header}`)];
  const compile = (args: readonly string[]) =>
    runCommand({ what: 'Compiling the binding', program: [compiler(), ...args], advice: 'Check that the compiler is g++ 9 or later.' }, signal);
  const queue = sources.map((source) => ({ source, object: path.join(scratch, `${path.basename(source)}.o`) }));
  const objects = queue.map(({ object }) => object);
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await compile([...flags, '-c', next.source, '-o', next.object]);
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, worker));
  const tensorflow = path.join(folder, 'tensorflow');
  const libraries = [`-L${tensorflow}`, '-l:libtensorflow_cc.so.2', '-l:libtensorflow_framework.so.2', `-Wl,-rpath,${TO_TENSORFLOW}`];
  const output = path.join(scratch, 'tfjs_binding.node');
  await compile(['-shared', '-pthread', ...objects, '-o', output, ...libraries]);
  await mkdir(path.dirname(bindingIn(tfjsNode)), { recursive: true });
  await rename(output, bindingIn(tfjsNode));
  await rm(scratch, { recursive: true });
}
