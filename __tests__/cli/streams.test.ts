import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { ROOT, run } from './program';

jest.setTimeout(180_000);

const IMAGE = 'examples/images/stars.png';
const QUESTION = 'where is the yellow object?';
const FIXTURE = '__tests__/fixtures/gqa';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'vispruner-streams-'));
});
afterAll(() => rm(folder, { recursive: true }));

it.each<[string, () => string[]]>([
  ['ask', () => ['ask', '--backend', 'wasm', '--tokens', '28', IMAGE, QUESTION, '--json']],
  ['select', () => ['select', '--backend', 'wasm', '--tokens', '28', IMAGE, '--json']],
  ['inspect', () => ['inspect', FIXTURE, '--json']],
  ['flops', () => ['flops', '--json']],
  ['doctor', () => ['doctor', '--json']],
  ['convert', () => ['convert', FIXTURE, path.join(folder, 'json'), '--dtype', 'float16', '--json']],
])('%s --json: stdout is one JSON value and a line end, and stderr is empty', async (_, args) => {
  const { code, stdout, stderr } = await run(...args());
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.endsWith('\n')).toBe(true);
  expect(typeof JSON.parse(stdout)).toBe('object');
});

it.each<[string, () => string[], RegExp]>([
  ['ask', () => ['ask', '--backend', 'wasm', IMAGE, QUESTION], /^top-right\n$/],
  ['inspect', () => ['inspect', FIXTURE], /^checkpoint +__tests__\/fixtures\/gqa\n/],
  ['flops', () => ['flops'], /\d T /],
  ['doctor', () => ['doctor'], /wasm/],
  ['convert', () => ['convert', FIXTURE, path.join(folder, 'plain'), '--dtype', 'float16'], /plain/],
  ['--version', () => ['--version'], /^\d+\.\d+\.\d+\n$/],
  ['--help', () => ['--help'], /^Usage: vispruner/],
])('%s: stdout has the result from its first character on, and stderr is empty', async (_, args, shape) => {
  const { code, stdout, stderr } = await run(...args());
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(shape);
  expect(stdout).not.toMatch(/TensorFlow\.js in Node|=====/); // tfjs's banner
});

/** The program's exit code and stderr when the reader of its stdout takes `lines` lines and goes. */
function piped(lines: number, ...args: string[]): Promise<{ code: number; stderr: string; stdout: string }> {
  const quoted = [process.execPath, require.resolve('ts-node/dist/bin'), 'lib/cli/main.ts', ...args].map((word) => `'${word}'`).join(' ');
  const shell = spawn('bash', ['-c', `${quoted} | head -n ${lines}; exit "\${PIPESTATUS[0]}"`], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  shell.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  shell.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    shell.on('error', reject);
    shell.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr }));
  });
}

it.each<[string, number, string[]]>([
  ['one line of inspect', 1, ['inspect', 'weights/vispruner-tiny']],
  ['one line of a selection', 1, ['select', '--backend', 'wasm', '--tokens', '200', IMAGE]],
  ['nothing of an answer', 0, ['ask', '--backend', 'wasm', IMAGE, QUESTION]],
  ['nothing of the help', 0, ['--help']],
])('a reader that takes %s and goes is no error', async (_, lines, args) => {
  const { code, stdout, stderr } = await piped(lines, ...args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.split('\n')).toHaveLength(lines + 1);
});
