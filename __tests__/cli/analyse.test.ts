import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { run } from './program';

jest.setTimeout(180_000);

const analyse = (...args: string[]) => run('analyse', ...args, '--backend', 'wasm');

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'vispruner-analyse-'));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

it('shift: the table alone is on stdout, a row for each block and each kind, and the picture is whole', async () => {
  await inFolder(async (folder) => {
    const svg = path.join(folder, 'new', 'shift.svg');
    const { code, stdout, stderr } = await analyse('shift', '--images', '1', '--svg', svg);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const block of [0, 1, 2, 3])
      for (const kind of ['last', 'text', 'image', 'full', 'selected']) expect(stdout).toMatch(new RegExp(`^${block} +${kind} `, 'm'));
    expect(stdout).toMatch(/^encoder +class /m);
    expect(await readdir(path.dirname(svg))).toEqual(['shift.svg']); // no temporary file beside it
    expect(await readFile(svg, 'utf8')).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
  });
});

it('rank: --json is one object with every method and its budget', async () => {
  const { code, stdout, stderr } = await analyse(
    'rank',
    '--images',
    '1',
    '--tokens',
    '12',
    '--methods',
    'vispruner:importantRatio=0.7,random',
    '--json',
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toMatchObject({
    analysis: 'rank',
    backend: 'wasm',
    result: [
      { name: 'all', tokens: 256 },
      { name: 'vispruner:importantRatio=0.7', tokens: 12 },
      { name: 'random', tokens: 12 },
    ],
  });
});

it("one's own images with a question are asked that question, and compared with the unpruned answer", async () => {
  const { code, stdout } = await analyse('quartiles', 'examples/images/stars.png', 'where is the yellow object?', '--depths', '0,3');
  expect(code).toBe(0);
  expect(stdout).toContain('1 questions, 256 visual tokens');
  expect(stdout).toContain('agreement');
  expect(stdout).toMatch(/^3 +100\.0/m);
});

it('dispersion and equal-positions print what they found', async () => {
  const dispersion = await analyse('dispersion', '--images', '1');
  expect(dispersion.stdout).toMatch(/^encoder, class attention +1 /m);
  const equal = await analyse('equal-positions', '--images', '1', '--block', '0', '--tokens', '256');
  for (const criterion of ['last', 'equal', 'class', 'random']) expect(equal.stdout).toMatch(new RegExp(`^${criterion} .* 100\\.0`, 'm'));
});

it.each([
  ['an analysis that is not known', ['tilt'], /unknown command 'tilt'/],
  ['an option of another analysis', ['shift', '--bins', '10'], /unknown option '--bins'/],
  ['no budget where one is needed', ['rank'], /required option '--tokens <n>'/],
  ['images and a number of scenes', ['shift', '--images', '2', 'a.png', 'what?'], /OPTION_CONFLICT/],
  ['an image without a question', ['shift', 'a.png'], /QUESTION_MISSING/],
  ['a method that is not known', ['rank', '--tokens', '4', '--methods', 'vispruna'], /METHOD_UNKNOWN/],
  ['a block that the decoder does not have', ['dispersion', '--block', '9', '--images', '1'], /BAD_OPTION/],
])('%s is refused as wrong use', async (_, args, message) => {
  const { code, stdout, stderr } = await analyse(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(message);
});
