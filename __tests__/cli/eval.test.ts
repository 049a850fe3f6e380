import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import sharp from 'sharp';
import { imagesFor, type Summary, scenesData } from '../../lib/eval';
import type { RgbImage } from '../../lib/image/types';
import { run, start } from './program';

jest.setTimeout(240_000);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'vispruner-eval-'));
});
afterAll(() => rm(folder, { recursive: true }));

const QUESTIONS = 20;
const file = (name: string): string => path.join(folder, name);
const command = (results: string, ...more: string[]): string[] =>
  [
    'eval',
    '--backend',
    'wasm',
    '--methods',
    'vispruner,random',
    '--budgets',
    '0.11',
    '--seeds',
    '1,2',
    '--timed',
    '0',
    '--questions',
    String(QUESTIONS),
  ].concat(['--results', file(results)], more);
const figuresOf = (text: string) =>
  (JSON.parse(text) as Summary).cells.map(({ row, budget, figure, seeds, entering }) => ({ row, budget, figure, seeds, entering }));

it('goes on where Ctrl-C ended it, and comes to what one run comes to; shards and files of the scenes do too', async () => {
  const whole = await run(...command('whole.jsonl', '--json'));
  expect(whole.code).toBe(0);
  const expected = figuresOf(whole.stdout);
  expect(expected.map(({ row }) => row)).toEqual(['all', 'blind', 'vispruner', 'random']);

  const { child, finished } = start(...command('cut.jsonl', '--json'));
  const lines = async (): Promise<number> => (await readFile(file('cut.jsonl'), 'utf8').catch(() => '')).split('\n').length - 1;
  while ((await lines()) < 2) await wait(20);
  child.kill('SIGINT');
  expect(await finished).toEqual({ code: 130, stdout: '', stderr: '' });
  const held = await lines();
  expect(held).toBeLessThan((await readFile(file('whole.jsonl'), 'utf8')).split('\n').length - 1);
  await appendFile(file('cut.jsonl'), '{"image":'); // as a crash in the middle of writing leaves it
  const resumed = await run(...command('cut.jsonl', '--json'));
  expect(resumed.stderr).toContain(`${held - 1} images are there`);
  expect(figuresOf(resumed.stdout)).toEqual(expected);

  for (const shard of ['1/2', '2/2']) expect((await run(...command(`${shard[0]}.jsonl`, '--shard', shard))).code).toBe(0);
  const merged = await run('eval', '--merge', file('1.jsonl'), file('2.jsonl'), '--json');
  expect(figuresOf(merged.stdout)).toEqual(expected);
});

it('asks a data set of files as it asks scenes', async () => {
  const scenes = scenesData();
  const rows: string[] = [];
  for (let image = 0; image < imagesFor(scenes, QUESTIONS).images; image++) {
    const { width, height, data } = (await scenes.image(image)) as RgbImage;
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(file(`${image}.png`));
    for (const { id, group, text, reference } of scenes.questions(image)) {
      rows.push(JSON.stringify({ id, group, question: text, answer: reference, image: `${image}.png` }));
    }
  }
  await writeFile(file('rows.jsonl'), `${rows.join('\n')}\n`);
  const mapping = { format: 'rows', questions: 'rows.jsonl', images: '.', metric: 'word', suffix: '', maxNewTokens: 1 };
  await writeFile(file('vispruner-data.json'), JSON.stringify(mapping));
  const flags = ['eval', '--backend', 'wasm', '--methods', 'vispruner', '--budgets', '0.11', '--timed', '1'];
  const [ofFiles, ofScenes] = [
    await run(...flags, '--data', folder, '--results', file('files.jsonl'), '--json', file('out.json'), '--report', file('report')),
    await run(...flags, '--questions', String(QUESTIONS), '--results', file('scenes.jsonl'), '--json'),
  ];
  expect(ofFiles.code).toBe(0);
  expect(ofFiles.stdout).toContain(`${rows.length} questions about`);
  expect(ofFiles.stdout).toMatch(/vispruner +28 +1 /); // timed
  expect(figuresOf(await readFile(file('out.json'), 'utf8'))).toEqual(figuresOf(ofScenes.stdout));
  expect((await readFile(file('report/index.html'), 'utf8')).includes('</svg>')).toBe(true);
});

it('refuses to go on from results of something else, and says of what', async () => {
  await run(...command('other.jsonl', '--no-blind', '--questions', '1'));
  const before = await readFile(file('other.jsonl'), 'utf8');
  const { code, stdout, stderr } = await run(...command('other.jsonl'));
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/error \[RESULTS_OTHER\].*conditions.*blind/);
  expect(await readFile(file('other.jsonl'), 'utf8')).toBe(before);
});

it.each([
  [['--methods', 'visprunner'], 'METHOD_UNKNOWN'],
  [['--methods', 'vispruner:ratio=1'], 'METHOD_OPTION_UNKNOWN'],
  [['--budgets', '0.5,1.5'], 'above 0 and below 1'],
  [['--shard', '3/2'], 'the first at most the second'],
  [['--seeds', '-1'], 'whole numbers from 0'],
])('%j is wrong use', async (flags, message) => {
  const { code, stdout, stderr } = await run('eval', ...flags);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(message);
});

it('a data set that is not there is a failure with its code', async () => {
  const { code, stderr } = await run('eval', '--data', file('nothing.json'), '--results', file('nothing.jsonl'));
  expect(code).toBe(1);
  expect(stderr).toContain('error [DATA_FILE]');
});
