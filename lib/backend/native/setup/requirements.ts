import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import * as path from 'node:path';
import { BackendError } from '../../../../layers/errors';
import type { Flavour } from '../folders';

/** Bytes that are needed at the worst moment: libraries, one wheel and what compiling writes. */
const SPACE: Readonly<Record<Flavour, number>> = { cpu: 1.3e9, cuda: 7e9, stock: 0.8e9 };

const OLDEST_GLIBC = [2, 27] as const;

const PROBE = '#include <condition_variable>\n#include <thread>\n#include <vector>\nstd::vector<int> all{1};\n';

/** Ways to call pip. */
const PIPS: readonly (readonly [string, ...string[]])[] = [['python3', '-m', 'pip'], ['python', '-m', 'pip'], ['pip3'], ['pip']];

/** The C++ compiler; it has to be one that knows GNU's vectors and attributes. */
export function compiler(): string {
  return process.env.CXX || 'g++';
}

/** npm as it was called for this process, else the one in PATH. */
export function npmProgram(): [string, ...string[]] {
  const { npm_execpath } = process.env;
  if (npm_execpath !== undefined && path.basename(npm_execpath) === 'npm-cli.js' && existsSync(npm_execpath)) return [process.execPath, npm_execpath];
  return ['npm'];
}

function works([name, ...args]: readonly [string, ...string[]], input?: string): boolean {
  const { error, status } = spawnSync(name, args, { input, stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', 'ignore'] });
  return error === undefined && status === 0;
}

export function findPip(): readonly [string, ...string[]] | undefined {
  return PIPS.find((pip) => works([...pip, '--version'] as [string, ...string[]]));
}

export interface Requirements {
  readonly root: string;
  readonly flavour: Flavour;
  /** Undefined where it is not needed. */
  readonly pip: readonly string[] | 'absent' | undefined;
}

/** Asks for everything that an installation needs before anything is written. @throws BackendError `NATIVE_REQUIREMENTS` with all that is missing */
export async function checkRequirements(requirements: Requirements): Promise<void> {
  const { flavour, root, pip } = requirements;
  const missing = [...(flavour === 'stock' ? [] : platform()), ...(await space(root, flavour))];
  if (!works([...npmProgram(), '--version']))
    missing.push('npm: it is not in PATH, or does not run. It comes with Node; "corepack" and distributions have it apart.');
  if (pip === 'absent') {
    missing.push(
      'pip, to download TensorFlow: neither "python3 -m pip" nor "pip" runs. Debian and Ubuntu: apt-get install python3-pip; Fedora: dnf install python3-pip. Or download the wheel elsewhere and give it by --wheel.',
    );
  }
  if (flavour !== 'stock' && !works([compiler(), '-std=c++17', '-x', 'c++', '-fsyntax-only', '-'], PROBE)) {
    missing.push(
      `a C++17 compiler with its library: "${compiler()}" does not run or can't compile. Debian and Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; or name another in CXX.`,
    );
  }
  if (missing.length > 0) {
    throw new BackendError(
      'NATIVE_REQUIREMENTS',
      `The native backend can't be installed here yet. Nothing was changed. What is missing:\n${missing.map((one) => `- ${one}`).join('\n')}`,
    );
  }
}

function platform(): string[] {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return [
      `Linux on x86-64: this is ${process.platform} on ${process.arch}, for which no binding is compiled. --stock tries TensorFlow.js's own; wasm works everywhere.`,
    ];
  }
  const { glibcVersionRuntime } = (process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }).header;
  const [major = 0, minor = 0] = (glibcVersionRuntime ?? '0.0').split('.').map(Number);
  if (major > OLDEST_GLIBC[0] || (major === OLDEST_GLIBC[0] && minor >= OLDEST_GLIBC[1])) return [];
  const found = glibcVersionRuntime === undefined ? 'this system has another C library (Alpine: musl)' : `this system has ${glibcVersionRuntime}`;
  return [`glibc ${OLDEST_GLIBC.join('.')} or later: ${found}. Use a newer distribution or an image that is based on Debian.`];
}

/** Looks at what is there of the folder's path, and makes nothing of it. */
async function space(root: string, flavour: Flavour): Promise<string[]> {
  const other = 'Name another folder by VISPRUNER_NATIVE=FOLDER, for this command and for those that use it.';
  let there = root;
  while (!existsSync(there)) there = path.dirname(there);
  try {
    accessSync(there, constants.W_OK);
    if (!statSync(there).isDirectory()) throw new Error('it is no folder');
  } catch (error) {
    return [`a folder to write to: ${there} (${(error as Error).message}). ${other}`];
  }
  const { bavail, bsize, blocks } = await statfs(there);
  if (blocks === 0 || bavail * bsize >= SPACE[flavour]) return []; // some file systems do not tell
  const [wants, has] = [SPACE[flavour], bavail * bsize].map((bytes) => `${(bytes / 1e9).toFixed(1)} GB`);
  return [`disk space: ${wants} are needed at ${there}, and ${has} are free. Make room. ${other}`];
}
