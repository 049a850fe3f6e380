import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { largeFile, smallFile } from '../support/fake_hub';
import { CONTENT, NAME, PullCase, plainFiles, WEIGHTS, WEIGHTS_HASH } from '../support/pulls';
import { type Finished, ROOT, runWith, startWith } from './program';

const TOKEN = 'hf_secretsecret';
const STARS = 'examples/images/stars.png';

let at: PullCase;
beforeEach(async () => {
  at = await PullCase.start();
});
afterEach(() => at.end());

/** Where the hub is, where the cache is, and nobody's token. */
const environment = (): Record<string, string> => ({
  ...{ HF_ENDPOINT: at.hub.endpoint, HF_HUB_CACHE: at.cache, HF_HOME: join(at.cache, 'home') },
  ...{ HF_TOKEN: '', HF_HUB_OFFLINE: '', TRANSFORMERS_OFFLINE: '' },
});
const program = (...args: string[]): Promise<Finished> => runWith(environment(), ...args);
const ranges = (): (string | undefined)[] => at.hub.reads(WEIGHTS).flatMap((seen) => (seen.at === 'files' ? [seen.headers.range] : []));

it('what pull fetches, every command takes by its name, without the hub', async () => {
  const shipped = join(ROOT, 'weights/vispruner-tiny');
  const files = readdirSync(shipped).map((name) => [
    name,
    (name.endsWith('.safetensors') ? largeFile : smallFile)(readFileSync(join(shipped, name))),
  ]);
  at.offer(Object.fromEntries(files), { references: ['main', 'v1.0'], token: TOKEN });
  const pulled = await program('pull', NAME, '--revision', 'v1.0', '--token', TOKEN);
  expect(pulled).toEqual({
    code: 0,
    stdout: expect.stringMatching(
      /^acme\/plain at 0123[0-9a-f]{36}: 9 files, 4\.02 MiB, of which 4\.02 MiB were fetched\n.*snapshots.0123[0-9a-f]{36}\n$/,
    ),
    stderr: expect.stringContaining('SHA256SUMS'),
  });
  expect(pulled.stderr).not.toContain(TOKEN);

  const named = `${NAME}@v1.0`;
  const requests = at.hub.seen.length;
  const asked = await program('ask', '--model', named, STARS, 'where is the yellow object?');
  expect(asked).toMatchObject({ code: 0, stdout: 'top-right\n' });
  const inspected = await program('inspect', named, '--verify', '--json');
  expect(JSON.parse(inspected.stdout)).toMatchObject({
    directory: expect.stringContaining('snapshots'),
    verified: expect.arrayContaining([WEIGHTS]),
  });
  const target = join(at.cache, 'converted');
  expect(await program('convert', named, target, '--dtype', 'float16')).toMatchObject({ code: 0 });
  expect(readdirSync(target)).toContain(WEIGHTS);
  expect((await program('flops', named)).code).toBe(0);
  expect(at.hub.seen).toHaveLength(requests);

  const missing = await program('ask', '--model', NAME, STARS, 'where is the yellow object?');
  expect(missing).toEqual({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/^error \[REVISION_NOT_CACHED\].*v1\.0.*vispruner pull acme\/plain\n$/),
  });
});

it('--json prints one object; --include, --cache-dir and --force are followed', async () => {
  at.offer();
  const place = join(at.cache, 'elsewhere');
  const size = ['config.json', 'README.md'].reduce((sum, name) => sum + (plainFiles()[name]?.content.length ?? 0), 0);
  const args = ['pull', NAME, '--include', '*.md', '--include', 'config.json', '--cache-dir', place, '--json'];
  for (const [more, fetchedBytes] of [[[], size] as const, [[], 0] as const, [['--force'], size] as const]) {
    const { code, stdout, stderr } = await program(...args, ...more);
    expect([code, stderr]).toEqual([0, '']);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ repository: NAME, revision: 'main', fetchedBytes, bytes: size, skipped: [WEIGHTS] },
      files: [{ path: 'config.json' }, { path: 'README.md' }],
      directory: expect.stringContaining(place),
    });
  }
});

describe('exit codes', () => {
  it.each<[string, string[], Record<string, string>, number, RegExp]>([
    ['a name that is none', ['llava'], {}, 2, /^error \[BAD_MODEL_NAME\]: "llava".*org\/name/],
    ['a revision that is none', [NAME, '--revision', '..'], {}, 2, /^error \[BAD_REVISION\]/],
    ['no name', [], {}, 2, /missing required argument/],
    ['a pattern that nothing matches', [NAME, '--include', '*.gguf'], {}, 2, /^error \[NO_SUCH_FILES\].*\*\.gguf/],
    ['a model that is not there', ['acme/other'], {}, 1, /^error \[HUB_REPOSITORY_NOT_FOUND\].*acme\/other/],
    ['a revision that is not there', [`${NAME}@v9`], {}, 1, /^error \[HUB_REVISION_NOT_FOUND\].*"v9"/],
    ['no network wanted', [NAME], { HF_HUB_OFFLINE: '1' }, 1, /^error \[HUB_OFFLINE\]/],
    ['an address that is none', [NAME], { HF_ENDPOINT: 'hub.example' }, 2, /^error \[BAD_ENDPOINT\].*hub\.example/],
  ])('%s', async (_, args, variables, code, message) => {
    at.offer();
    const ended = await runWith({ ...environment(), ...variables }, 'pull', ...args);
    expect(ended).toEqual({ code, stdout: '', stderr: expect.stringMatching(message) });
    expect(ended.stderr).not.toMatch(/^ +at /m); // no stack
  });
});

describe('broken off', () => {
  /** Sends half of the weights, then nothing, and tells when that is done. */
  const half = (): Promise<void> =>
    new Promise((resolve) => {
      at.offer();
      at.fault(
        (seen) => seen.at === 'files',
        1,
        (_, response) => {
          response.writeHead(200, { 'Content-Length': CONTENT.length });
          response.write(CONTENT.subarray(0, CONTENT.length / 2), () => setTimeout(resolve, 500)); // the time to write it down
        },
      );
    });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGKILL', null],
  ] as const)('by %s, and the next pull goes on from there', async (signal, expected) => {
    const sent = half();
    const { child, finished } = startWith(environment(), 'pull', NAME);
    await Promise.race([sent, finished]);
    child.kill(signal);
    expect(await finished).toEqual({ code: expected, stdout: '', stderr: '' });
    if (signal !== 'SIGKILL') expect(await at.blobs()).toContain(`${WEIGHTS_HASH}.incomplete`);
    expect((await program('pull', NAME)).code).toBe(0);
    expect(ranges()).toEqual([undefined, `bytes=${CONTENT.length / 2}-`]);
    expect((await at.read(WEIGHTS)).equals(CONTENT)).toBe(true);
    expect((await at.blobs()).filter((name) => name.includes('incomplete'))).toEqual([]);
  });
});

it('two programs pull one model at once', async () => {
  at.offer({ ...plainFiles(), 'tokenizer.json': largeFile(Buffer.alloc(5_000_000, 'x')) });
  for (const { code } of await Promise.all([program('pull', NAME), program('pull', NAME)])) expect(code).toBe(0);
  expect((await at.read(WEIGHTS)).equals(CONTENT)).toBe(true);
  expect(await at.blobs()).toHaveLength(3);
});
