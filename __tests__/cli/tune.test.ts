import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { ROOT, run } from './program';

jest.setTimeout(180_000);

const STARS = 'examples/images/stars.png';
const QUESTION = 'where is the yellow object?';
const withModel = existsSync(path.join(ROOT, 'weights/vispruner-tiny/model.safetensors')) ? it : it.skip;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'vispruner-tune-'));
});
afterAll(() => rm(folder, { recursive: true }));

withModel('tune: options found on samples of a file go to stdout and to a file, which ask takes', async () => {
  const data = path.join(folder, 'samples.jsonl');
  const out = path.join(folder, 'new', 'vtw.json');
  await writeFile(data, `${JSON.stringify({ image: path.join(ROOT, STARS), question: QUESTION })}\n`);
  const tuned = await run('tune', 'vtw', '--backend', 'wasm', '--data', data, '--set', 'eta=1000', '--set', 'first=2', '--out', out);
  expect(tuned).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(tuned.stdout)).toEqual({ method: 'vtw', layer: 2 });
  expect(JSON.parse(await readFile(out, 'utf8'))).toEqual({ method: 'vtw', layer: 2 });

  const asked = await run('ask', '--backend', 'wasm', '--json', '--prune-options', out, STARS, QUESTION);
  expect(asked).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(asked.stdout)).toMatchObject({ pruning: 'vtw', usage: { enteringTokens: [256, 256, 0, 0] } });
});

it.each([
  ['a method that has no search', ['tune', 'random'], /\[SEARCH_UNKNOWN\].*fitprune/],
  ['a search without its budget', ['tune', 'fitprune'], /\[BUDGET_MISSING\]/],
  ['an option that the search does not have', ['tune', 'vtw', '--set', 'et=1'], /\[METHOD_OPTION_UNKNOWN\].*et/],
  ['an option of a search that is no number', ['tune', 'vtw', '--set', 'eta'], /name=number/],
])('wrong use ends with code 2: %s', async (_, args, message) => {
  const { code, stdout, stderr } = await run(...args);
  expect(stderr).toMatch(message);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
});
