import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { ROOT, run } from './program';

jest.setTimeout(180_000);

const IMAGE = 'examples/images/stars.png';
const QUESTION = 'where is the yellow object?';
const PNG = [0x89, 0x50, 0x4e, 0x47];

const withModel = existsSync(path.join(ROOT, 'weights/vispruner-tiny/model.safetensors')) ? it : it.skip;

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'vispruner-cli-'));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

withModel('ask: the answer alone is on stdout, and --json gives the same with counts, and the overlay is a PNG', async () => {
  await inFolder(async (folder) => {
    const flags = ['--backend', 'wasm', '--tokens', '28', IMAGE, QUESTION];
    const plain = await run('ask', ...flags);
    expect(plain).toEqual({ code: 0, stdout: expect.stringMatching(/^\S.*\n$/), stderr: '' });

    const overlay = path.join(folder, 'new', 'kept.png');
    const { code, stdout, stderr } = await run('ask', '--json', '--overlay', overlay, ...flags);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const answer = JSON.parse(stdout) as { text: string; visual: { kept: number[] }[] };
    expect(answer).toMatchObject({
      question: QUESTION,
      images: [IMAGE],
      backend: 'wasm',
      pruning: 'vispruner',
      finishReason: 'stop',
      overlays: [overlay],
    });
    expect(answer).toMatchObject({ usage: { visualTokens: 28, visualTokensBefore: 256 } });
    expect(answer.visual[0]?.kept).toHaveLength(28);
    expect(`${answer.text}\n`).toBe(plain.stdout);
    expect(await readdir(path.dirname(overlay))).toEqual(['kept.png']); // no temporary file beside it
    expect([...(await readFile(overlay)).subarray(0, 4)]).toEqual(PNG);
  });
});

withModel('ask: a question without an image is answered', async () => {
  const { code, stdout, stderr } = await run('ask', '--backend', 'wasm', 'is there a red star?');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/\S\n$/);
});

withModel('select: the same seed keeps the same random patches, another seed others', async () => {
  const kept = async (seed: string) => {
    const { code, stdout } = await run('select', '--backend', 'wasm', '--prune', 'random', '--tokens', '9', '--seed', seed, IMAGE);
    expect(code).toBe(0);
    return (JSON.parse(stdout) as { visual: { kept: number[] }[] }).visual[0]?.kept;
  };
  const first = await kept('1');
  expect(first).toHaveLength(9);
  expect(await kept('1')).toEqual(first);
  expect(await kept('2')).not.toEqual(first);
});

it('convert: what it writes, inspect reads', async () => {
  await inFolder(async (folder) => {
    const target = path.join(folder, 'half');
    const converted = await run('convert', '__tests__/fixtures/gqa', target, '--dtype', 'bfloat16', '--max-shard-size', '64KB', '--json');
    expect({ code: converted.code, stderr: converted.stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(converted.stdout) as { bytes: number; files: string[] };
    expect(report.files.length).toBeGreaterThan(1);
    const { code, stdout } = await run('inspect', target, '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ bytes: report.bytes, files: report.files.length, dtypes: { BF16: report.bytes } });
  });
});

it('doctor: wasm works, and what is absent says why', async () => {
  const { code, stdout, stderr } = await run('doctor', '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const { backends } = JSON.parse(stdout) as { backends: { backend: string; available: boolean; gflops?: number; reason?: string }[] };
  const wasm = backends.find(({ backend }) => backend === 'wasm');
  expect(wasm).toMatchObject({ available: true });
  expect(wasm?.gflops).toBeGreaterThan(0);
  for (const { available, reason } of backends) expect(available || /\w/.test(reason ?? '')).toBe(true);
});
