import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { cp, link, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import { BackendError } from '../../../../layers/errors';
import { type Flavour, sharedFolder } from '../folders';
import { type Report, runCommand } from './steps';
import { isNeeded, TARGET, WHEELS, type Wheel } from './wheels';
import { extract } from './zip';

/** The folders that the wheels fill. */
export const LIBRARY_FOLDERS = ['tensorflow', 'nvidia'] as const;

export interface FetchOptions {
  readonly flavour: Exclude<Flavour, 'stock'>;
  /** Wheels that are here already, in place of downloads. */
  readonly wheels: readonly string[];
  readonly pip: readonly [string, ...string[]] | undefined;
  readonly report: Report;
  readonly signal?: AbortSignal;
}

/** Says, in a folder of libraries, which wheels they are out of. It is written last. */
const markIn = (folder: string) => path.join(folder, 'tensorflow', 'wheels.json');
const POLL_MS = 200;

export function hasLibraries(folder: string, flavour: FetchOptions['flavour']): boolean {
  const mark = markIn(folder);
  return existsSync(mark) && readFileSync(mark, 'utf8') === markOf(WHEELS[flavour]);
}

function markOf(wheels: readonly Wheel[]): string {
  return `${JSON.stringify(wheels, null, 2)}\n`;
}

/** TensorFlow's libraries and headers, as the wheels have them, into a folder. @throws BackendError `NATIVE_INSTALL`, `NATIVE_CHECKSUM` */
export async function fetchLibraries(folder: string, options: FetchOptions): Promise<void> {
  if (await adopt(folder, options.flavour)) return;
  const given = new Map(await Promise.all(options.wheels.map(async (file) => [await sha256(file), file] as const)));
  const pinned = WHEELS[options.flavour];
  const stranger = [...given].find(([hash]) => !pinned.some((wheel) => wheel.sha256 === hash));
  if (stranger) throw wrongChecksum(stranger[1], stranger[0], pinned);
  for (const wheel of pinned) {
    const file = given.get(wheel.sha256) ?? (await download(folder, wheel, options));
    const progress = (done: number, total: number) => options.report(`Unpacking ${wheel.project}`, done, total);
    await extract(file, folder, { wanted: isNeeded, progress, signal: options.signal });
    if (!given.has(wheel.sha256)) await rm(file);
  }
  await writeFile(markIn(folder), markOf(pinned));
}

/** The same libraries, of the folder of another version of this package: names for the files that are there. */
async function adopt(folder: string, flavour: FetchOptions['flavour']): Promise<boolean> {
  const shared = sharedFolder();
  const others = await readdir(shared).catch(() => []);
  const source = others.map((name) => path.join(shared, name)).find((other) => hasLibraries(other, flavour));
  if (source === undefined) return false;
  try {
    for (const name of LIBRARY_FOLDERS) if (existsSync(path.join(source, name))) await linkTree(path.join(source, name), path.join(folder, name));
    return true;
  } catch {
    for (const name of LIBRARY_FOLDERS) await rm(path.join(folder, name), { recursive: true, force: true }); // another disk: get them anew
    return false;
  }
}

async function linkTree(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)];
    if (entry.isDirectory()) await linkTree(source, target);
    else if (entry.isFile()) await link(source, target);
    else await cp(source, target);
  }
}

async function download(folder: string, wheel: Wheel, { pip, report, signal }: FetchOptions): Promise<string> {
  if (pip === undefined) {
    throw new BackendError('NATIVE_INSTALL', `${wheel.project} ${wheel.version} is not among the wheels given, and there is no pip to download it.`);
  }
  const target = path.join(folder, 'download');
  await mkdir(path.join(target, 'tmp'), { recursive: true });
  const what = `Downloading ${wheel.project} ${wheel.version}`;
  const timer = setInterval(() => void sizeOf(target).then((size) => report(what, Math.min(size, wheel.bytes), wheel.bytes)), POLL_MS);
  report(what, 0, wheel.bytes);
  try {
    await runCommand(
      {
        what,
        program: [
          ...pip,
          'download',
          '--quiet',
          '--no-deps',
          '--no-cache-dir',
          '--only-binary=:all:',
          ...TARGET,
          '-d',
          target,
          `${wheel.project}==${wheel.version}`,
        ],
        advice: 'Check the network and pip\'s index setting ("pip config list"), or get the wheel elsewhere and give it by --wheel.',
        environment: { TMPDIR: path.join(target, 'tmp'), PIP_DISABLE_PIP_VERSION_CHECK: '1' },
      },
      signal,
    );
  } finally {
    clearInterval(timer);
  }
  const name = (await readdir(target)).find((one) => one.endsWith('.whl'));
  if (name === undefined) throw new BackendError('NATIVE_INSTALL', `${what}: pip wrote no wheel into ${target}. Give the file by --wheel.`);
  const hash = await sha256(path.join(target, name));
  if (hash !== wheel.sha256) throw wrongChecksum(name, hash, [wheel]);
  return path.join(target, name);
}

function wrongChecksum(file: string, hash: string, pinned: readonly Wheel[]): BackendError {
  const wanted = pinned.map(({ project, version, sha256: sum }) => `${sum} (${project} ${version})`).join(' or ');
  return new BackendError(
    'NATIVE_CHECKSUM',
    `${file} has the SHA-256 ${hash}; ${wanted} was expected. It was not used. A damaged download, another release, or an index that serves other files than it should: get it again.`,
  );
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  } catch (cause) {
    throw new BackendError('NATIVE_INSTALL', `${file} can't be read: ${(cause as Error).message}. Check the path of --wheel.`, { cause });
  }
  return hash.digest('hex');
}

/** Bytes of the files in a folder, at any depth; those that vanish meanwhile do not count. */
export async function sizeOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => path.join(parentPath, name));
  const sizes = await Promise.all(files.map(async (file) => (await stat(file).catch(() => undefined))?.size ?? 0));
  return sizes.reduce((sum, size) => sum + size, 0);
}
