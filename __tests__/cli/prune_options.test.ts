import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { ROOT, run } from './program';

jest.setTimeout(180_000);

const STARS = 'examples/images/stars.png';
const QUESTION = 'where is the yellow object?';
const withModel = existsSync(path.join(ROOT, 'weights/vispruner-tiny/model.safetensors')) ? it : it.skip;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'vispruner-prune-'));
});
afterAll(() => rm(folder, { recursive: true }));

withModel('ask: --prune names any method with its options, and flags add theirs', async () => {
  const entering = async (...flags: string[]) => {
    const { code, stdout, stderr } = await run('ask', '--backend', 'wasm', '--json', ...flags, STARS, QUESTION);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return (JSON.parse(stdout) as { usage: { enteringTokens: number[] } }).usage.enteringTokens;
  };
  expect(await entering('--prune', 'pyramiddrop:layers=[1,3]:ratio=0.25')).toEqual([256, 64, 64, 16]);
  expect(await entering('--prune', 'dart:visualPivots=2', '--layer', '3', '--tokens', '20')).toEqual([256, 256, 256, 20]);
});

it.each([
  ['pruning in a file and in options', ['ask', '--prune-options', 'a.json', '--tokens', '4', STARS, QUESTION], /\[PRUNE_OPTIONS_TWICE\].*tokens/],
  ['an option twice', ['ask', '--prune', 'fastv:tokens=4', '--tokens', '5', STARS, QUESTION], /\[PRUNE_OPTIONS_TWICE\].*tokens/],
  ['a method that is not written as one', ['select', '--prune', 'vispruner:tokens', STARS], /\[METHOD_LIST\].*option=value/],
  ['an option of another method', ['select', '--prune', 'vtw', '--tokens', '4', STARS], /\[METHOD_OPTION_UNKNOWN\].*tokens/],
])('wrong use ends with code 2: %s', async (_, args, message) => {
  const { code, stdout, stderr } = await run(...args);
  expect(stderr).toMatch(message);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
});

it('a file of options that is not there, or holds no options, is named', async () => {
  const missing = await run('ask', '--prune-options', path.join(folder, 'none.json'), STARS, QUESTION);
  expect(missing).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/\[FILE_NOT_FOUND\].*none\.json/) });
  const file = path.join(folder, 'text.json');
  await writeFile(file, '"fastv"');
  const text = await run('select', '--prune-options', file, STARS);
  expect(text).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('[OPTIONS_INVALID]') });
});
