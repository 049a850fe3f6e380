import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { type ImageRecord, type ResultsHeader, readResults, weightsDigest } from '../../../lib/eval';
import { ResultsFile } from '../../../lib/eval/results_node';

const HEADER: ResultsHeader = {
  format: 'vispruner-eval 1',
  weights: 'abc',
  dtype: 'float32',
  backend: 'wasm',
  machine: 'a machine',
  data: { name: 'scenes', digest: 'd', metric: 'word', maxNewTokens: 1 },
  conditions: [{ key: 'all', row: 'all', budget: 1 }],
  unreachable: [],
  timed: 0,
};
const record = (image: number, said = 'ja, größer'): ImageRecord => ({
  image,
  questions: [{ id: String(image), group: 'all', text: '?', reference: 'x', said: { all: said } }],
  entering: { all: 256 },
});

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'vispruner-results-'));
  file = path.join(folder, 'deep', 'results.jsonl');
});
afterEach(() => rm(folder, { recursive: true }));

async function written(...records: ImageRecord[]): Promise<void> {
  const results = await ResultsFile.open(file, HEADER, false);
  for (const one of records) await results.append(one);
}

describe('a results file', () => {
  it('goes on behind what it holds, on another machine too', async () => {
    await written(record(0), record(2));
    const again = await ResultsFile.open(file, { ...HEADER, machine: 'another' }, false);
    expect(again.records).toEqual([record(0), record(2)]);
    await again.append(record(1));
    expect((await readResults(file)).records).toEqual([record(0), record(2), record(1)]);
  });

  it('loses what a crash cut off in the middle of a letter, and no line before', async () => {
    await written(record(0));
    const whole = await readFile(file);
    await appendFile(file, Buffer.from(JSON.stringify(record(1))).subarray(0, -40));
    expect((await ResultsFile.open(file, HEADER, false)).records).toEqual([record(0)]);
    expect(await readFile(file)).toEqual(whole);
  });

  it('counts an image once that two processes asked about', async () => {
    await written(record(0, 'first'), record(0, 'second'), record(1));
    expect((await readResults(file)).records).toEqual([record(0, 'first'), record(1)]);
  });

  it('begins anew when it is told to', async () => {
    await written(record(0));
    expect((await ResultsFile.open(file, HEADER, true)).records).toEqual([]);
    expect((await readResults(file)).records).toEqual([]);
  });

  it.each<[string, Partial<ResultsHeader>, RegExp]>([
    ['weights', { weights: 'xyz' }, /weights: "abc" there, "xyz" now/],
    ['data', { data: { ...HEADER.data, digest: 'e' } }, /data: .*"d".* there, .*"e".* now/],
    ['methods', { conditions: [...HEADER.conditions, { key: 'a 28', row: 'a' }] }, /conditions: nothing more there, a 28 now/],
    ['shards', { shard: '1/2' }, /shard: absent there, "1\/2" now/],
  ])('of other %s is not gone on with, and left as it is', async (_, other, message) => {
    await written(record(0));
    const before = await readFile(file, 'utf8');
    await expect(ResultsFile.open(file, { ...HEADER, ...other }, false)).rejects.toMatchObject({
      code: 'RESULTS_OTHER',
      message: expect.stringMatching(message),
    });
    expect(await readFile(file, 'utf8')).toBe(before);
  });

  it.each([
    ['a line that is no JSON', '{"image": 1,\n', 'RESULTS_DAMAGED', /line 3: it is not JSON/],
    ['a line that is no record', '{"picture": 1}\n', 'RESULTS_DAMAGED', /line 3: it is no record/],
    ['a line that is a number', '7\n', 'RESULTS_DAMAGED', /line 3: it is 7/],
  ])('is refused for %s', async (_, line, code, message) => {
    await written(record(0));
    await appendFile(file, line);
    await expect(readResults(file)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('is refused when it is another kind of file, or none', async () => {
    await expect(readResults(file)).rejects.toMatchObject({ code: 'RESULTS_MISSING' });
    const other = path.join(folder, 'other.jsonl');
    await writeFile(other, '{"format": "something"}\n');
    await expect(readResults(other)).rejects.toMatchObject({ code: 'RESULTS_DAMAGED', message: expect.stringContaining('"something"') });
  });
});

it('the digest of a model changes with its weights and its config, and with nothing else', async () => {
  const model = path.join(folder, 'model');
  const write = (name: string, text: string): Promise<void> => writeFile(path.join(folder, name), text);
  await write('model.safetensors', 'a');
  await write('config.json', '{}');
  const before = await weightsDigest(folder);
  await write('README.md', 'text');
  expect(await weightsDigest(folder)).toBe(before);
  await write('config.json', '{ }');
  const changed = await weightsDigest(folder);
  expect(changed).not.toBe(before);
  await write('model.safetensors', 'b');
  expect(await weightsDigest(folder)).not.toBe(changed);
  await expect(weightsDigest(model)).rejects.toThrow();
});
