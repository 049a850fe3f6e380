import { type ChildProcess, spawn } from 'node:child_process';
import * as path from 'node:path';

export const ROOT: string = path.resolve(__dirname, '../..');

export interface Finished {
  /** null when a signal ended the process before it could handle it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the program from source, as a user's shell would. */
export function start(...args: string[]): { child: ChildProcess; finished: Promise<Finished> } {
  return startWithInput(undefined, ...args);
}

/** With a text piped into it. */
export function startWithInput(input: string | undefined, ...args: string[]): { child: ChildProcess; finished: Promise<Finished> } {
  return launch(input, {}, args);
}

/** With these variables in its environment. */
export function startWith(env: Readonly<Record<string, string>>, ...args: string[]): ReturnType<typeof start> {
  return launch(undefined, env, args);
}

export function runWith(env: Readonly<Record<string, string>>, ...args: string[]): Promise<Finished> {
  return startWith(env, ...args).finished;
}

function launch(input: string | undefined, env: Readonly<Record<string, string>>, args: readonly string[]): ReturnType<typeof start> {
  const command = [require.resolve('ts-node/dist/bin'), path.join(ROOT, 'lib/cli/main.ts'), ...args];
  const child = spawn(process.execPath, command, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {}); // a program that ends early reads no further
  child.stdin.end(input);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const finished = new Promise<Finished>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { child, finished };
}

export function run(...args: string[]): Promise<Finished> {
  return start(...args).finished;
}
