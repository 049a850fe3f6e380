import { fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import { BackendError } from '../../../layers/errors';
import { type Flavour, installRoot } from './folders';
import { PATCH_VERSION } from './patch';
import { compileBinding } from './setup/binding';
import type { Checked } from './setup/check';
import { fetchLibraries, hasLibraries, LIBRARY_FOLDERS, sizeOf } from './setup/libraries';
import { fetchPackages, fetchStock } from './setup/packages';
import { checkRequirements, findPip } from './setup/requirements';
import type { Report } from './setup/steps';
import { WHEELS } from './setup/wheels';

export interface InstallOptions {
  readonly flavour: Flavour;
  /** Wheels of TensorFlow that are here already; without them pip downloads. */
  readonly wheels?: readonly string[];
  /** Without our additions, as tfjs-node has its binding; for tests. */
  readonly additions?: boolean;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

export interface Installed extends Checked {
  readonly root: string;
  readonly flavour: Flavour;
  readonly bytes: number;
  readonly seconds: number;
}

/**
 * Makes a native folder: tfjs-node's JavaScript from npm, TensorFlow's libraries from the Python index's wheels, and tfjs-node's binding compiled
 * against them, with the additions of `patch.ts` and `kernels/`. (tfjs-node's own install script downloads an old TensorFlow from a host that many
 * networks can't reach; `stock` runs it.)
 *
 * Everything is made under a temporary name and tried in a process of its own before it takes its place, so that an installation that is cut off or
 * fails leaves what was there before.
 *
 * @throws BackendError `NATIVE_REQUIREMENTS`, `NATIVE_CHECKSUM`, `NATIVE_INSTALL`; the signal's reason
 */
export async function installNative({ flavour, wheels = [], additions = true, report = () => {}, signal }: InstallOptions): Promise<Installed> {
  const begun = performance.now();
  const root = installRoot(flavour);
  const needsPip = flavour !== 'stock' && wheels.length < WHEELS[flavour].length && !hasLibraries(root, flavour);
  const pip = needsPip ? findPip() : undefined;
  await checkRequirements({ root, flavour, pip: needsPip ? (pip ?? 'absent') : undefined });
  await mkdir(root, { recursive: true });
  const unlock = await lock(root);
  const staging = path.join(root, `.staging-${process.pid}`);
  try {
    await removeLeftovers(root);
    await mkdir(staging);
    if (flavour !== 'stock') {
      if (hasLibraries(root, flavour)) await borrowLibraries(root, staging);
      else {
        await fetchLibraries(staging, { flavour, wheels, pip, report, signal });
        if (!existsSync(path.join(root, 'tensorflow'))) await keepLibraries(root, staging);
      }
    }
    await fetchPackages(staging, root, report, signal);
    if (flavour === 'stock') await fetchStock(staging, report, signal);
    else await compileBinding(staging, { additions, report, signal });
    report('Trying it');
    const checked = await tried(staging, flavour === 'stock' || !additions ? 0 : PATCH_VERSION, signal);
    await takePlace(root, staging);
    return { root, flavour, ...checked, bytes: await sizeOf(root), seconds: (performance.now() - begun) / 1000 };
  } finally {
    await rm(staging, { recursive: true, force: true });
    await unlock();
  }
}

/** One installation at a time. A process that was killed leaves its lock, which the next one takes over. */
async function lock(root: string): Promise<() => Promise<void>> {
  const file = path.join(root, '.lock');
  const holder = Number(await readFile(file, 'utf8').catch(() => '0'));
  if (holder > 0 && isRunning(holder)) {
    throw new BackendError('NATIVE_INSTALL', `Another installation into ${root} is at work (process ${holder}). Wait for it, or end it.`);
  }
  await writeFile(file, String(process.pid));
  return () => rm(file, { force: true });
}

function isRunning(id: number): boolean {
  try {
    process.kill(id, 0);
    return true;
  } catch {
    return false;
  }
}

async function removeLeftovers(root: string): Promise<void> {
  for (const name of await readdir(root)) if (/^\.(?:staging|old)-/.test(name)) await rm(path.join(root, name), { recursive: true, force: true });
}

/** What was downloaded is kept when a later step fails; nothing loads it without node_modules. */
async function keepLibraries(root: string, staging: string): Promise<void> {
  for (const name of [...LIBRARY_FOLDERS].reverse()) {
    if (!existsSync(path.join(staging, name))) continue;
    await rm(path.join(root, name), { recursive: true, force: true });
    await rename(path.join(staging, name), path.join(root, name));
  }
  await borrowLibraries(root, staging);
}

async function borrowLibraries(root: string, staging: string): Promise<void> {
  for (const name of LIBRARY_FOLDERS) if (existsSync(path.join(root, name))) await symlink(path.join('..', name), path.join(staging, name));
}

/** Runs the new binding. @throws BackendError `NATIVE_INSTALL` when it does not work */
async function tried(folder: string, patch: number, signal?: AbortSignal): Promise<Checked> {
  const program = path.join(__dirname, 'setup', `check${path.extname(__filename)}`);
  const child = fork(program, {
    env: { ...process.env, VISPRUNER_NATIVE: folder },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    signal,
    killSignal: 'SIGKILL',
  });
  let answer: Checked | string | undefined;
  let complaints = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-2000);
  });
  child.on('message', (message) => {
    answer = message as Checked | string;
  });
  const end = await new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, killed) => resolve(`its process ended with ${killed ?? code}. ${complaints.trim()}`));
  });
  signal?.throwIfAborted();
  if (answer === undefined || typeof answer === 'string') {
    throw new BackendError('NATIVE_INSTALL', `The binding was made, but does not work: ${answer ?? end} What was there before is still in place.`);
  }
  if (answer.patch !== patch) {
    throw new BackendError(
      'NATIVE_INSTALL',
      `The binding that was loaded has additions of version ${answer.patch}, not ${patch}: another one was found.`,
    );
  }
  return answer;
}

/** The new folders in the place of the old ones. node_modules, without which nothing is loaded, goes first and comes last. */
async function takePlace(root: string, staging: string): Promise<void> {
  const old = path.join(root, `.old-${process.pid}`);
  await mkdir(old);
  const fresh = await Promise.all(LIBRARY_FOLDERS.map(async (name) => ((await isFolder(path.join(staging, name))) ? [name] : [])));
  const names: string[] = ['node_modules', ...fresh.flat()];
  for (const name of names) if (existsSync(path.join(root, name))) await rename(path.join(root, name), path.join(old, name));
  for (const name of names.reverse()) await rename(path.join(staging, name), path.join(root, name));
  await rm(old, { recursive: true });
}

/** Not a link to one, as borrowed libraries are. */
async function isFolder(name: string): Promise<boolean> {
  return (await lstat(name).catch(() => undefined))?.isDirectory() ?? false;
}
