/**
 * Builds the native TensorFlow backend into `.native/`: tfjs-node's JavaScript from npm, TensorFlow's library from pip's wheel, and tfjs-node's
 * binding compiled against it, with the additions of `patch.ts`. (tfjs-node's own install script downloads an old TensorFlow from a host that many
 * networks can't reach.)
 *
 *   npm run native
 *
 * Needs: g++, Python 3 with pip, Node's headers (they come with Node's own archive), about 1.1 GB of disk for a moment and 0.9 GB for good.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { BackendError } from '../../../layers/errors';
import { loadNative } from './load_node';
import { bindingVersion } from './operations_node';
import { PATCH_VERSION, patched } from './patch';

const TFJS_NODE = '4.22.0';
const TENSORFLOW = '2.21.0';

/** The parts of the wheel that compiling and running need; the rest (1 GB of Python) stays in the archive. */
const EXTRACT = `
import sys, zipfile
wheel, target = sys.argv[1:]
folders = ('tensorflow/include/tensorflow/c/', 'tensorflow/include/tensorflow/core/platform/', 'tensorflow/include/tsl/platform/', 'tensorflow/include/xla/tsl/c/',
           'tensorflow/include/tensorflow/core/common_runtime/next_pluggable_device/c/')
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if name in ('tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2') or name.startswith(folders):
            archive.extract(name, target)
`;

function run(what: string, command: string, args: readonly string[], advice: string, cwd?: string): void {
  console.log(`${what} ...`);
  const result = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.error !== undefined || result.status !== 0) {
    const detail = result.error?.message ?? `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-15).join('\n');
    throw new BackendError('NATIVE_INSTALL', `${what} failed (${command} ${args.slice(0, 3).join(' ')} ...): ${detail}\n${advice}`);
  }
}

function requireProgram(command: string, args: readonly string[], advice: string): void {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  if (result.error !== undefined || result.status !== 0) {
    throw new BackendError('NATIVE_INSTALL', `The native backend needs "${command} ${args.join(' ')}" to work, and it does not. ${advice}`);
  }
}

function nodeHeaders(): string {
  const folder = path.join(path.dirname(path.dirname(fs.realpathSync(process.execPath))), 'include', 'node');
  if (!fs.existsSync(path.join(folder, 'node_api.h'))) {
    throw new BackendError(
      'NATIVE_INSTALL',
      `Node's headers are not at ${folder}. Use Node from nodejs.org's archive, or install your distribution's headers (Debian: libnode-dev) and link them there.`,
    );
  }
  return folder;
}

/** Extracts the library and the headers of the wheel into `<root>/tensorflow`, which is there only when it is whole. */
function fetchTensorflow(root: string): void {
  const latest = path.join(root, 'tensorflow', 'include', 'tensorflow', 'core', 'common_runtime', 'next_pluggable_device', 'c'); // an older install lacks it
  if (fs.existsSync(path.join(root, 'tensorflow', 'libtensorflow_framework.so.2')) && fs.existsSync(latest)) return;
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'vispruner-native-'));
  try {
    const pip = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '-d', scratch, `tensorflow-cpu==${TENSORFLOW}`];
    run(
      `Download tensorflow-cpu ${TENSORFLOW} (270 MB)`,
      'python3',
      pip,
      'Check the network and that this Python has a wheel of that version (3.10 to 3.13, x86-64 Linux).',
    );
    const wheel = fs.readdirSync(scratch).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new BackendError('NATIVE_INSTALL', `pip downloaded no wheel into ${scratch}.`);
    run('Extract TensorFlow', 'python3', ['-c', EXTRACT, path.join(scratch, wheel), root], 'Check that 0.9 GB of disk are free.');
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

/** tfjs-node without a copy of tfjs of its own: two engines in one process would not see each other's tensors. */
function fetchTfjsNode(root: string): void {
  if (!fs.existsSync(path.join(root, 'node_modules', '@tensorflow', 'tfjs-node', 'binding'))) {
    const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', root, `@tensorflow/tfjs-node@${TFJS_NODE}`];
    run(`Install @tensorflow/tfjs-node ${TFJS_NODE}`, 'npm', args, "Check the network and npm's registry setting.");
  }
  const scope = path.join(root, 'node_modules', '@tensorflow');
  for (const name of fs.readdirSync(scope)) {
    if (name !== 'tfjs-node') fs.rmSync(path.join(scope, name), { recursive: true, force: true });
  }
}

function compileBinding(root: string): void {
  const tfjsNode = path.join(root, 'node_modules', '@tensorflow', 'tfjs-node');
  const tensorflow = path.join(root, 'tensorflow');
  const library = path.join(tfjsNode, 'lib', 'napi-v8', 'tfjs_binding.node');
  fs.mkdirSync(path.dirname(library), { recursive: true });
  const scratch = fs.mkdtempSync(path.join(tfjsNode, 'patched-'));
  try {
    const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((file) => {
      const target = path.join(scratch, file);
      fs.writeFileSync(target, patched(file, fs.readFileSync(path.join(tfjsNode, 'binding', file), 'utf8')));
      return target;
    });
    const kernels = path.join(__dirname, 'kernels');
    sources.push(
      ...fs
        .readdirSync(kernels)
        .filter((name) => name.endsWith('.cc'))
        .map((name) => path.join(kernels, name)),
    );
    const includes = [nodeHeaders(), tfjsNode, path.join(tfjsNode, 'binding'), path.join(tensorflow, 'include')].map((folder) => `-I${folder}`);
    const libraries = [`-L${tensorflow}`, '-l:libtensorflow_cc.so.2', '-l:libtensorflow_framework.so.2', `-Wl,-rpath,${tensorflow}`];
    const output = path.join(scratch, 'tfjs_binding.node');
    const args = ['-O3', '-shared', '-fPIC', '-std=c++17', '-pthread', '-DNAPI_VERSION=8', ...includes, ...sources, '-o', output, ...libraries];
    run('Compile the binding', 'g++', args, 'Check that g++ is version 9 or later.', tfjsNode);
    fs.renameSync(output, library); // a process that has the older one loaded keeps it
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const root = path.resolve('.native');
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new BackendError(
      'NATIVE_INSTALL',
      `This script knows Linux on x86-64 only; this machine is ${process.platform} on ${process.arch}. The wasm backend works everywhere.`,
    );
  }
  requireProgram('g++', ['--version'], 'Install a C++ compiler (Debian: apt-get install g++).');
  requireProgram('python3', ['-m', 'pip', '--version'], 'Install Python 3 with pip (Debian: apt-get install python3-pip).');
  fs.mkdirSync(root, { recursive: true });
  fetchTfjsNode(root);
  fetchTensorflow(root);
  compileBinding(root);
  const tf = loadNative();
  if (tf === undefined || (await tf.setBackend('tensorflow')) !== true) {
    throw new BackendError('NATIVE_INSTALL', `The binding was built in ${root} but the backend "tensorflow" does not start.`);
  }
  const sum = (await tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])).data())[0];
  if (sum !== 3) throw new BackendError('NATIVE_INSTALL', `The backend "tensorflow" starts but computes wrongly: 3 expected, ${sum} found.`);
  const { patch } = bindingVersion();
  if (patch !== PATCH_VERSION) {
    throw new BackendError(
      'NATIVE_INSTALL',
      `The binding that was loaded has additions of version ${patch}, not ${PATCH_VERSION}: another tfjs-node than ${root}'s was found.`,
    );
  }
  console.log(`The backend "tensorflow" works (TensorFlow ${TENSORFLOW}); it lies in ${root}.`);
}

if (require.main === module) {
  main().catch((error: unknown) => {
    console.error(error instanceof BackendError ? `${error.code}: ${error.message}` : error);
    process.exitCode = 1;
  });
}
