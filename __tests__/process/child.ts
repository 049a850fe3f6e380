import { spawn } from 'node:child_process';
import * as path from 'node:path';

export const ROOT: string = path.resolve(__dirname, '../..');

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs JavaScript in a process of its own, from source; `lib` is the library, `model` loads the shipped model on wasm, and `ask` asks it. */
export function child(code: string, ...flags: string[]): Promise<Ended> {
  return childIn({}, code, ...flags);
}

/** `child` with environment variables of its own beside this process's. */
export function childIn(variables: Readonly<Record<string, string>>, code: string, ...flags: string[]): Promise<Ended> {
  const prelude = `
    const IMAGE = 'examples/images/stars.png', QUESTION = 'where is the yellow object?';
    const model = () => require('./lib/index').loadModel('weights/vispruner-tiny', { backend: 'wasm' });
    const fail = (why) => { process.stderr.write(String(why) + '\\n'); process.exitCode = 9; };
  `;
  const started = spawn(process.execPath, [...flags, '-r', 'ts-node/register', '-e', `${prelude}\n${code}`], {
    cwd: ROOT,
    env: { ...process.env, ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  started.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  started.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    started.on('error', reject);
    started.on('close', (exit) => resolve({ code: exit, stdout, stderr }));
  });
}
