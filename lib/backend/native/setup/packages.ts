import { copyFile, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import { HOST_TFJS, tfjsNodeIn } from '../folders';
import { npmProgram } from './requirements';
import { type Report, runCommand } from './steps';

export const TFJS = '4.22.0';

/** The manifest and lock file of what is installed, with the sums that npm checks. The lock has another name, for npm packs none of its own. */
const PACKAGES = path.join(__dirname, '..', 'packages');

/** Says, in node_modules, by which lock file it was made. */
const MARK = 'vispruner-lock.json';

/**
 * tfjs-node with what it needs, into a folder: a copy of those in `root`, where they are the same, else from npm. Its tfjs is a stand-in that answers with
 * the tfjs of whoever loads it: two engines in one process would not see each other's tensors.
 */
export async function fetchPackages(folder: string, root: string, report: Report, signal?: AbortSignal): Promise<void> {
  const lock = path.join(PACKAGES, 'lock.json');
  const there = path.join(root, 'node_modules');
  const mark = await readFile(path.join(there, MARK)).catch(() => undefined);
  if (mark?.equals(await readFile(lock))) {
    await cp(there, path.join(folder, 'node_modules'), { recursive: true });
    return;
  }
  report(`Installing @tensorflow/tfjs-node ${TFJS}`);
  await copyFile(path.join(PACKAGES, 'manifest.json'), path.join(folder, 'package.json'));
  await copyFile(lock, path.join(folder, 'package-lock.json'));
  await writeStandIn(path.join(folder, 'tfjs'));
  await runCommand(
    {
      what: `Installing @tensorflow/tfjs-node ${TFJS}`,
      program: [...npmProgram(), 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
      advice: 'Check the network and npm\'s registry setting ("npm config get registry").',
      folder,
      environment: { npm_config_prefix: folder, npm_config_global: 'false', npm_config_workspaces: 'false' },
    },
    signal,
  );
  for (const name of ['tfjs', 'tfjs-core']) {
    const target = path.join(folder, 'node_modules', '@tensorflow', name);
    await rm(target, { recursive: true, force: true }); // npm's link: node_modules has to stand alone
    await writeStandIn(target);
  }
  await copyFile(lock, path.join(folder, 'node_modules', MARK));
}

async function writeStandIn(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(
    path.join(folder, 'package.json'),
    JSON.stringify({ name: `@tensorflow/${path.basename(folder)}`, version: TFJS, main: 'index.js' }),
  );
  await writeFile(path.join(folder, 'index.js'), `module.exports = globalThis[Symbol.for(${JSON.stringify(HOST_TFJS)})];\n`);
}

/** TensorFlow.js's own binding and library, by its own script: float32 without our products, from the host of its makers. */
export async function fetchStock(folder: string, report: Report, signal?: AbortSignal): Promise<void> {
  const what = "Downloading TensorFlow.js's own binding";
  report(what);
  const bin = path.join(folder, 'node_modules', '.bin');
  await runCommand(
    {
      what,
      program: [process.execPath, path.join('scripts', 'install.js')],
      advice: 'Its host may be out of reach here, or has no binding for this platform. The wasm backend needs neither.',
      folder: tfjsNodeIn(folder),
      environment: { PATH: `${bin}${path.delimiter}${process.env.PATH ?? ''}` },
    },
    signal,
  );
}
