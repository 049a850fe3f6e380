import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { loadModel } from '../../lib/load';
import { findModel, hubCacheDirectory } from '../../weights/hub_cache_node';

// Two caches that Python's huggingface_hub 2.4 wrote, with links and without (make/make_hub_cache.ts), of the model in layouts/sharded.
const FIXTURES = join(__dirname, '../fixtures');
const COMMIT = '5f3c0de1b2a39847566748392a1b0c9d8e7f6051';
const FOLDER = 'models--acme--sharded';
const NAME = 'acme/sharded';

let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'vispruner-cache-'));
  await cp(join(FIXTURES, 'hub-cache'), cache, { recursive: true, verbatimSymlinks: true });
});
afterEach(() => rm(cache, { recursive: true }));

const inSnapshot = (...path: string[]): string => join(cache, FOLDER, 'snapshots', COMMIT, ...path);

describe('a cache that huggingface_hub wrote', () => {
  it.each([NAME, `${NAME}@main`, `${NAME}@v1.0`, `${NAME}@refs/pr/1`, `${NAME}@${COMMIT}`])('%s is found', async (name) => {
    expect(await findModel(name, cache)).toBe(inSnapshot());
  });

  it.each(['hub-cache', 'hub-cache-copies'])('a model is loaded from it by name, the same as from its own directory: %s', async (fixture) => {
    const before = process.env.HF_HUB_CACHE;
    process.env.HF_HUB_CACHE = join(FIXTURES, fixture);
    try {
      const [named, placed] = [
        await loadModel(`${NAME}@main`, { backend: 'wasm', verify: fixture === 'hub-cache' }),
        await loadModel(join(FIXTURES, 'layouts/sharded'), { backend: 'wasm' }),
      ];
      const request = { inputIds: Int32Array.of(1, 5, 9), maxNewTokens: 6 };
      const [ids, expected] = await Promise.all([named, placed].map(async (model) => (await model.generate(request)).ids));
      expect(ids).toEqual(expected);
      named.dispose();
      placed.dispose();
    } finally {
      if (before === undefined) delete process.env.HF_HUB_CACHE;
      else process.env.HF_HUB_CACHE = before;
    }
  });
});

describe('what is no name in the cache', () => {
  it('a directory of that name wins', async () => {
    const here = relative(process.cwd(), join(FIXTURES, 'gqa'));
    await mkdir(join(cache, 'acme/sharded'), { recursive: true });
    const back = process.cwd();
    process.chdir(cache);
    try {
      expect(await findModel(NAME, cache)).toBe(NAME);
    } finally {
      process.chdir(back);
    }
    expect(await findModel(here, cache)).toBe(here);
  });

  it.each(['./acme/sharded', '/acme/sharded', 'acme', 'acme/sharded/deep', '../sharded', 'acme\\sharded', ''])('"%s" is a path', async (where) => {
    expect(await findModel(where, cache)).toBe(where);
  });

  it.each(['../../refs', '..', '/etc/passwd', '', '.hidden', 'a b', 'a..b', 'main.lock', 'a//b', 'a\u0000'])(
    'a revision %j is refused',
    async (revision) => {
      await expect(findModel(`${NAME}@${revision}`, cache)).rejects.toMatchObject({ code: 'BAD_REVISION' });
    },
  );
});

describe('what is missing is told, with where it was looked for and what fetches it', () => {
  it('the model', async () => {
    await expect(findModel('acme/other@v2', cache)).rejects.toMatchObject({
      code: 'MODEL_NOT_CACHED',
      message: expect.stringMatching(/models--acme--other.*vispruner pull acme\/other@v2$/),
    });
  });

  it('the revision, with those that are there', async () => {
    await expect(findModel(`${NAME}@v2.0`, cache)).rejects.toMatchObject({
      code: 'REVISION_NOT_CACHED',
      message: expect.stringMatching(/"v2\.0".*main.*\(5f3c0de1\).*vispruner pull acme\/sharded@v2\.0$/),
    });
    await expect(findModel(`${NAME}@${'0'.repeat(40)}`, cache)).rejects.toMatchObject({ code: 'REVISION_NOT_CACHED' });
  });

  it('the commit that a branch is said to be at', async () => {
    await writeFile(join(cache, FOLDER, 'refs/main'), 'f'.repeat(40));
    await expect(findModel(NAME, cache)).rejects.toMatchObject({ code: 'REVISION_NOT_CACHED', message: expect.stringContaining('v1.0') });
    await writeFile(join(cache, FOLDER, 'refs/main'), '../../../elsewhere');
    await expect(findModel(NAME, cache)).rejects.toMatchObject({ code: 'REVISION_NOT_CACHED', message: expect.stringContaining('refs') });
  });

  it.each([
    ['config.json', /config\.json is missing/],
    ['model-00002-of-00003.safetensors', /model-00002-of-00003\.safetensors is missing/],
    ['model.safetensors.index.json', /model\.safetensors is missing \(and model\.safetensors\.index\.json/],
  ])('a file: %s', async (file, message) => {
    await rm(inSnapshot(file));
    await expect(findModel(NAME, cache)).rejects.toMatchObject({ code: 'SNAPSHOT_INCOMPLETE', message: expect.stringMatching(message) });
  });

  it.each([
    ['config.json', 'd5b114fb21c5d267e9b12e19bbd090d573522daf'],
    ['model-00002-of-00003.safetensors', '0373d7b8024d71be9fe459ebe21d6cdf910a12384a4fbbf9a7bd722dc8112131'],
  ])('the blob of %s, to which its link leads', async (file, blob) => {
    await rm(join(cache, FOLDER, 'blobs', blob));
    await expect(findModel(NAME, cache)).rejects.toMatchObject({ code: 'SNAPSHOT_INCOMPLETE', message: expect.stringContaining(file) });
  });

  it('a download that was cut off', async () => {
    await rm(inSnapshot('model-00002-of-00003.safetensors'));
    await writeFile(join(cache, FOLDER, 'blobs/0373d7b8.incomplete'), 'half');
    await expect(findModel(NAME, cache)).rejects.toMatchObject({ message: expect.stringMatching(/cut off \(1 file.*goes on with the same command/) });
  });
});

// As huggingface_hub 2.4 has it: constants.HF_HUB_CACHE under these variables, with HOME=/home/me.
it.each<[Record<string, string>, string]>([
  [{}, '~/.cache/huggingface/hub'],
  [{ HF_HOME: '/a/b' }, '/a/b/hub'],
  [{ HF_HUB_CACHE: '/c' }, '/c'],
  [{ HUGGINGFACE_HUB_CACHE: '/d' }, '/d'],
  [{ HF_HUB_CACHE: '/c', HUGGINGFACE_HUB_CACHE: '/d', HF_HOME: '/a' }, '/c'],
  [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
  [{ XDG_CACHE_HOME: '/x', HF_HOME: '/a' }, '/a/hub'],
  [{ HF_HOME: '~/hf' }, '~/hf/hub'],
  [{ XDG_CACHE_HOME: '~/x' }, '~/x/huggingface/hub'],
  [{ HF_HOME: '$MINE/hf', MINE: '/m' }, '/m/hf/hub'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a shell's way of writing it.
  [{ HF_HUB_CACHE: '${MINE}/c', MINE: '/m' }, '/m/c'],
  [{ XDG_CACHE_HOME: '$MINE', MINE: '/m' }, '/m/huggingface/hub'],
  [{ HF_HOME: '$NOT_SET/hf' }, '$NOT_SET/hf/hub'],
  [{ HF_HUB_CACHE: '~other/x' }, '~other/x'],
])('under %j the cache is %s', (environment, expected) => {
  expect(hubCacheDirectory(environment)).toBe(expected.replace(/^~(?=\/)/, homedir()));
});
