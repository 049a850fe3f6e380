import { spawn } from 'node:child_process';
import { BackendError } from '../../../../layers/errors';

/** Told of the progress of an installation: what is done now, and how much of it, in bytes, where that is known. */
export type Report = (step: string, done?: number, total?: number) => void;

export interface Command {
  /** What it does, for the message. */
  readonly what: string;
  readonly program: readonly [string, ...string[]];
  /** What to do when it fails. */
  readonly advice: string;
  readonly folder?: string;
  readonly environment?: Readonly<Record<string, string>>;
}

/** Lines of a failed program's output that a message quotes. */
const QUOTED = 15;

/**
 * Runs a program to its end; an abort ends it with all that it has started.
 * @throws BackendError `NATIVE_INSTALL`; the signal's reason
 */
export async function runCommand({ what, program, advice, folder, environment }: Command, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const [name, ...args] = program;
  const child = spawn(name, args, { cwd: folder, env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-1e5);
    });
  }
  const stop = () => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  };
  signal?.addEventListener('abort', stop, { once: true });
  const failed = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, killed) =>
      resolve(code === 0 ? undefined : `it ended with ${killed ?? code}: ${output.trim().split('\n').slice(-QUOTED).join('\n')}`),
    );
  }).finally(() => signal?.removeEventListener('abort', stop));
  signal?.throwIfAborted();
  if (failed !== undefined) throw new BackendError('NATIVE_INSTALL', `${what} failed (${program.slice(0, 4).join(' ')} ...): ${failed}\n${advice}`);
}
