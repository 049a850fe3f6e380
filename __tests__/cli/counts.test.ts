import { run } from './program';

jest.setTimeout(180_000);

/** Table of VisPruner's paper (v1, LLaVA-NeXT-7B): visual tokens, FLOPs in T and cache in MiB, dropped before the decoder; FLOPs of FastV at K = 2. */
const PAPER = [
  { tokens: 2880, flops: 43.58, cache: 1440 },
  { tokens: 2160, flops: 32.35, cache: 1080, fastv: 33.05 },
  { tokens: 1440, flops: 21.66, cache: 720, fastv: 23.04 },
  { tokens: 720, flops: 11.51, cache: 360, fastv: 13.53 },
  { tokens: 290, flops: 5.71, cache: 145, fastv: 8.1 },
  { tokens: 145, flops: 3.8, cache: 72.5, fastv: 6.3 },
];

interface Counted {
  readonly visualTokens: number;
  readonly beforeDecoder: { readonly flops: number; readonly cacheBytes: number };
  readonly fastv?: { readonly flops: number };
}

it("flops: the paper's efficiency table comes out, FLOPs within 0.03 T and the cache exactly", async () => {
  const { code, stdout, stderr } = await run('flops', 'llava-next-7b', '--json');
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { rows } = JSON.parse(stdout) as { rows: Counted[] };
  expect(rows.map((row) => row.visualTokens)).toEqual(PAPER.map((row) => row.tokens));
  for (const [i, { flops, cache, fastv }] of PAPER.entries()) {
    const row = rows[i] as Counted;
    expect(Math.abs(row.beforeDecoder.flops / 1e12 - flops)).toBeLessThanOrEqual(0.0301);
    expect(row.beforeDecoder.cacheBytes / 2 ** 20).toBe(cache);
    if (fastv !== undefined) expect(Math.abs((row.fastv?.flops ?? 0) / 1e12 - fastv)).toBeLessThanOrEqual(0.0301);
  }
});

it('flops: the table goes to stdout, with budgets of one choice', async () => {
  const { code, stdout } = await run('flops', 'llava-1.5-13b', '--tokens', '64,32', '--text-tokens', '60');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^64 +64 .* T .*MiB/m);
  expect(stdout).toMatch(/^32 +32 .* T .*MiB/m);
});

it('inspect: reads a checkpoint in shards by its headers', async () => {
  const { code, stdout, stderr } = await run('inspect', '__tests__/fixtures/layouts/sharded', '--json');
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const found = JSON.parse(stdout) as Record<string, unknown>;
  expect(found).toMatchObject({ files: 3, dtypes: { BF16: found.bytes }, layout: expect.stringMatching(/^older/) });
  expect(found.parameters).toMatchObject({ total: (found.bytes as number) / 2 });
});

it('inspect: the report of a language and vision model is readable text', async () => {
  const { code, stdout } = await run('inspect', '__tests__/fixtures/gqa');
  expect(code).toBe(0);
  for (const part of [/^decoder +Llama, 3 blocks of 32, 4 query and 2 key-value heads$/m, /^image +28 x 28 .*16 visual tokens/m, /^weights .*F32/m]) {
    expect(stdout).toMatch(part);
  }
});
