import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PullProgress, pullModel } from '../../../lib/hub/pull_node';
import { loadModel } from '../../../lib/load';
import { largeFile, smallFile } from '../../support/fake_hub';
import { COMMIT, CONTENT, NAME, PullCase, plainFiles, tree, WEIGHTS } from '../../support/pulls';

const FIXTURES = join(__dirname, '../../fixtures');
const SHARDED = join(FIXTURES, 'layouts/sharded');
/** The commit at which Python's huggingface_hub fetched it, see make/make_hub_cache.ts. */
const RECORDED_COMMIT = '5f3c0de1b2a39847566748392a1b0c9d8e7f6051';

const shardedFiles = Object.fromEntries(
  readdirSync(SHARDED).map((name) => {
    const content = readFileSync(join(SHARDED, name));
    return [name, name.endsWith('.safetensors') ? largeFile(content) : smallFile(content)];
  }),
);

let at: PullCase;
beforeEach(async () => {
  at = await PullCase.start();
});
afterEach(() => at.end());

describe('what is written', () => {
  beforeEach(() => {
    at.hub.models.set('acme/sharded', { files: shardedFiles, commit: RECORDED_COMMIT, references: ['main', 'v1.0', 'refs/pr/1'] });
  });
  const options = () => ({ endpoint: at.hub.endpoint, cacheDir: at.cache, token: '' });
  /** huggingface_hub 2 keeps lists of files beside the layout. */
  const notLayout = (path: string) => path === 'CACHEDIR.TAG' || path.includes('/trees/');

  it('is file for file and link for link what huggingface_hub writes: branch, tag, pull request and commit', async () => {
    for (const revision of ['main', 'v1.0', 'refs/pr/1', RECORDED_COMMIT]) await pullModel('acme/sharded', { ...options(), revision });
    expect(await tree(at.cache)).toEqual(await tree(join(FIXTURES, 'hub-cache'), notLayout));
    expect(at.hub.reads('model-00001-of-00003.safetensors').filter((seen) => seen.at === 'files')).toHaveLength(1); // once for four revisions
  });

  it.each(['hub-cache', 'hub-cache-copies'])('fetches nothing that huggingface_hub has fetched before: %s', async (fixture) => {
    await cp(join(FIXTURES, fixture), at.cache, { recursive: true, verbatimSymlinks: true });
    const before = await tree(at.cache);
    const { files, fetchedBytes } = await pullModel('acme/sharded', options());
    expect([files.length, fetchedBytes]).toEqual([5, 0]);
    expect(at.hub.seen.filter(({ path }) => path.includes('/resolve'))).toEqual([]);
    expect(await tree(at.cache)).toEqual(before);
  });

  it('with copies in place of links where links are not wanted', async () => {
    process.env.HF_HUB_DISABLE_SYMLINKS = '1';
    try {
      const { directory } = await pullModel('acme/sharded', options());
      expect(await tree(directory)).toEqual(await tree(SHARDED));
    } finally {
      delete process.env.HF_HUB_DISABLE_SYMLINKS;
    }
  });
});

it('a pulled model is loaded by its name, without the hub, and answers', async () => {
  const shipped = join(__dirname, '../../../weights/vispruner-tiny');
  const files = readdirSync(shipped).map((name) => [
    name,
    (name.endsWith('.safetensors') ? largeFile : smallFile)(readFileSync(join(shipped, name))),
  ]);
  at.offer({ ...Object.fromEntries(files), 'pytorch_model.bin': largeFile('another form of the same') });
  const progress: PullProgress[] = [];
  const report = await at.pull({ progress: (step) => progress.push(step) });
  expect(report).toMatchObject({ repository: NAME, revision: 'main', commit: COMMIT, skipped: ['SHA256SUMS', 'pytorch_model.bin'] });
  expect(report.fetchedBytes).toBe(report.bytes);
  expect(progress.at(-1)).toMatchObject({ bytes: report.bytes, totalBytes: report.bytes });
  const bytes = progress.map((step) => step.bytes);
  expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
  expect(new Set(bytes).size).toBeGreaterThan(files.length + 20); // the weights, 4 MB, in many steps
  await at.hub.close();

  const before = process.env.HF_HUB_CACHE;
  process.env.HF_HUB_CACHE = at.cache;
  try {
    const model = await loadModel(NAME, { verify: true });
    const { text } = await model.ask(join(__dirname, '../../../examples/images/stars.png'), 'where is the yellow object?');
    expect(text).toBe('top-right');
    model.dispose();
  } finally {
    if (before === undefined) delete process.env.HF_HUB_CACHE;
    else process.env.HF_HUB_CACHE = before;
  }
  at = await reopened(at);
});

/** A hub for `afterEach` to close, where a test closed its own. */
async function reopened(old: PullCase): Promise<PullCase> {
  await rm(old.cache, { recursive: true });
  return PullCase.start();
}

describe('which files', () => {
  const pulled = async (options: Parameters<PullCase['pull']>[0] = {}) => (await at.pull(options)).files.map(({ path }) => path).sort();

  it('by default what a model is loaded from: one form of the weights, configurations, tokenizer, template', async () => {
    const wanted = [
      ...['config.json', 'generation_config.json', 'preprocessor_config.json', 'processor_config.json', 'chat_template.jinja', 'chat_template.json'],
      ...['tokenizer.json', 'tokenizer_config.json', 'tokenizer.model', 'special_tokens_map.json', 'added_tokens.json', WEIGHTS],
    ];
    const others = [
      'pytorch_model.bin',
      'onnx/model.onnx',
      'onnx/config.json',
      'consolidated.safetensors',
      'model-00001-of-00002.safetensors',
      '.gitattributes',
    ];
    at.offer({
      ...Object.fromEntries([...wanted, ...others].map((name) => [name, smallFile(name)])),
      'model.safetensors.index.json': smallFile('{"weight_map": {}}'),
    });
    expect(await pulled()).toEqual(wanted.sort());
  });

  it('and what --include matches, in place of that', async () => {
    at.offer({ ...plainFiles(), 'onnx/deep/a.onnx': largeFile('a'), 'onnx/b.txt': smallFile('b') });
    expect(await pulled({ include: ['*.onnx', 'README.m?'] })).toEqual(['README.md', 'onnx/deep/a.onnx']);
    expect(String(await at.read('onnx/deep/a.onnx'))).toBe('a');
  });

  it.each([
    ['config.json', 'NO_CONFIG', /has no config\.json/],
    [WEIGHTS, 'NO_SAFETENSORS', /pytorch_model\.bin/],
  ])('a model without %s is refused before anything is fetched', async (name, code, message) => {
    const { [name]: _, ...rest } = plainFiles();
    at.offer({ ...rest, 'pytorch_model.bin': largeFile('x') });
    const failure = await at.failure();
    expect(failure).toEqual({ code, message: expect.stringMatching(message) });
    expect(await tree(at.cache)).toEqual({});
  });

  it('a pattern that no file matches is told with what there is', async () => {
    at.offer();
    expect(await at.failure({ include: ['*.gguf'] })).toEqual({ code: 'NO_SUCH_FILES', message: expect.stringMatching(/\*\.gguf.*config\.json/) });
  });

  it('an index that names a shard which the hub does not have', async () => {
    const index = smallFile('{"weight_map": {"a": "model-1.safetensors"}}');
    at.offer({ 'config.json': smallFile('{}'), 'model.safetensors.index.json': index });
    expect((await at.failure()).code).toBe('SHARD_MISSING');
    expect(at.hub.reads('config.json')).toEqual([]); // it is told before the rest is fetched
  });
});

describe('again', () => {
  it('a new commit of the branch takes what has not changed from the old one, and the old one stays', async () => {
    at.offer();
    await at.pull();
    const next = 'b'.repeat(40);
    at.offer({ ...plainFiles(), 'config.json': smallFile('{"model_type":"llava","changed":1}') }, { commit: next });
    const report = await at.pull();
    expect(report.files.filter(({ fetched }) => fetched).map(({ path }) => path)).toEqual(['config.json']);
    expect(readFileSync(join(report.directory, WEIGHTS)).equals(CONTENT)).toBe(true);
    expect(readFileSync(join(at.folder, 'refs/main'), 'utf8')).toBe(next);
    expect(String(await at.read('config.json'))).toBe('{"model_type":"llava"}');
  });

  it('force fetches what is there, and puts a damaged file right', async () => {
    at.offer();
    const { files } = await at.pull();
    const blob = join(at.folder, 'blobs', files.find(({ path }) => path === WEIGHTS)?.hash ?? '');
    await writeFile(blob, Buffer.alloc(CONTENT.length));
    expect((await at.pull({ force: true })).fetchedBytes).toBe((await at.pull()).bytes);
    expect(readFileSync(blob).equals(CONTENT)).toBe(true);
  });

  it('two files of one content are one blob', async () => {
    at.offer({ ...plainFiles(), 'added_tokens.json': smallFile('{}'), 'special_tokens_map.json': smallFile('{}'), 'tokenizer.json': smallFile('') });
    await at.pull();
    expect(at.hub.reads('added_tokens.json').length + at.hub.reads('special_tokens_map.json').length).toBe(2); // one, with its redirection
    expect(
      await Promise.all(['added_tokens.json', 'special_tokens_map.json', 'tokenizer.json'].map(async (name) => String(await at.read(name)))),
    ).toEqual([...['{}', '{}', '']]);
    expect(await at.blobs()).toHaveLength(4);
  });

  it('where the cache can not be written', async () => {
    at.offer();
    const folder = await mkdtemp(join(tmpdir(), 'vispruner-hub-'));
    try {
      await writeFile(join(folder, 'file'), '');
      const failure = await at.failure({ cacheDir: join(folder, 'file') });
      expect(failure).toEqual({ code: 'WRITE_FAILED', message: expect.stringContaining(join(folder, 'file')) });
      await mkdir(join(folder, 'models--acme--plain/snapshots', COMMIT, 'config.json'), { recursive: true }); // a folder under the file's name
      expect((await at.failure({ cacheDir: folder })).code).toBe('WRITE_FAILED');
      expect(Object.keys(await tree(folder)).filter((path) => path.endsWith('.tmp'))).toEqual([]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

it('the pages of a long list are followed to the end', async () => {
  const many = Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`tokenizer_${i}.json`, smallFile(`${i}`)]));
  at.offer({ ...plainFiles(), ...many });
  expect((await at.pull()).files).toHaveLength(13);
  expect(at.hub.seen.filter(({ path }) => path.includes('/tree/')).length).toBeGreaterThan(2);
});
