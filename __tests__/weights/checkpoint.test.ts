import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memoryDirectory, readJson, readText, urlDirectory } from '../../weights/byte_directory';
import { openDirectory } from '../../weights/byte_directory_node';
import { type Checkpoint, openCheckpoint } from '../../weights/checkpoint';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { encodeSafetensors } from '../../weights/safetensors_write';

const FIXTURES = join(__dirname, '..', 'fixtures');

/** A shard with one byte under each name. */
const shard = (...names: string[]): Promise<Uint8Array> =>
  encodeSafetensors(new Map(names.map((name, i) => [name, { dtype: 'U8', shape: [1], bytes: Uint8Array.of(i) }])));

async function directory(index: unknown, files: Record<string, Uint8Array> = {}): Promise<Checkpoint> {
  const text = typeof index === 'string' ? index : JSON.stringify(index);
  return openCheckpoint(
    memoryDirectory(new Map([['model.safetensors.index.json', new TextEncoder().encode(text)], ...Object.entries(files)]), 'dir'),
  );
}

describe('an index', () => {
  const map = { a: 'x.safetensors', b: 'y.safetensors' };

  it('joins its shards, in the order of the files', async () => {
    const checkpoint = await directory(
      { weight_map: { b: 'y.safetensors', a: 'x.safetensors', c: 'x.safetensors' } },
      { 'x.safetensors': await shard('a', 'c'), 'y.safetensors': await shard('b') },
    );
    expect(checkpoint.names).toEqual(['a', 'c', 'b']);
    expect([checkpoint.totalBytes, checkpoint.warnings]).toEqual([3, []]);
    expect([...(await checkpoint.bytes('c'))]).toEqual([1]);
    await expect((async () => checkpoint.info('d'))()).rejects.toMatchObject({ code: 'NO_SUCH_TENSOR' });
  });

  it.each([
    ['that is not JSON', '{"weight_map": {', 'NOT_JSON'],
    ['without a weight_map', { metadata: {} }, 'WEIGHT_MAP_MISSING'],
    ['with an empty weight_map', { weight_map: {} }, 'WEIGHT_MAP_MISSING'],
    ['that is a list', [], 'WEIGHT_MAP_MISSING'],
    ['whose weight_map names no file', { weight_map: { a: 1 } }, 'WEIGHT_MAP_MISSING'],
    ['with a key twice', '{"weight_map": {"a": "x", "a": "y"}}', 'DUPLICATE_KEY'],
    ['that leads out of the directory', { weight_map: { a: '../x.safetensors' } }, 'SHARD_PATH'],
    ['that leads out by a detour', { weight_map: { a: 'sub/../../x' } }, 'SHARD_PATH'],
    ['with an absolute path', { weight_map: { a: '/etc/passwd' } }, 'SHARD_PATH'],
    ['with a Windows path', { weight_map: { a: 'C:\\x' } }, 'SHARD_PATH'],
    ['with a URL', { weight_map: { a: 'https://host.example/x' } }, 'SHARD_PATH'],
    ['with a NUL', { weight_map: { a: 'x\0.safetensors' } }, 'SHARD_PATH'],
    ['with an empty path', { weight_map: { a: '' } }, 'SHARD_PATH'],
    ['of a missing shard', { weight_map: { a: 'z.safetensors' } }, 'SHARD_MISSING'],
  ])('%s is refused', async (_what, index, code) => {
    await expect(directory(index)).rejects.toMatchObject({ name: 'CheckpointError', code });
  });

  it('is refused when it names a tensor that its shard does not have', async () => {
    const files = { 'x.safetensors': await shard('a'), 'y.safetensors': await shard('c') };
    await expect(directory({ weight_map: map }, files)).rejects.toMatchObject({ code: 'KEY_NOT_IN_SHARD' });
  });

  it('is refused when a tensor is in two shards', async () => {
    const files = { 'x.safetensors': await shard('a', 'b'), 'y.safetensors': await shard('b') };
    await expect(directory({ weight_map: map }, files)).rejects.toMatchObject({ code: 'TENSOR_IN_TWO_SHARDS' });
  });

  it('is refused when a shard has a tensor that it does not name', async () => {
    const files = { 'x.safetensors': await shard('a'), 'y.safetensors': await shard('b', 'c') };
    await expect(directory({ weight_map: map }, files)).rejects.toMatchObject({ code: 'TENSOR_NOT_IN_INDEX' });
  });

  it('only warns of a total_size that disagrees', async () => {
    const files = { 'x.safetensors': await shard('a'), 'y.safetensors': await shard('b') };
    expect((await directory({ metadata: { total_size: 2 }, weight_map: map }, files)).warnings).toEqual([]);
    expect((await directory({ metadata: { total_size: 7 }, weight_map: map }, files)).warnings).toEqual([
      expect.stringContaining('7 bytes, the shards hold 2'),
    ]);
  });
});

it('prefers the single file, as transformers does', async () => {
  const files = new Map([
    ['model.safetensors', await shard('only')],
    ['model.safetensors.index.json', new TextEncoder().encode('{')],
  ]);
  expect((await openCheckpoint(memoryDirectory(files))).names).toEqual(['only']);
});

it('says what a directory without weights lacks', async () => {
  await expect(openCheckpoint(memoryDirectory(new Map()))).rejects.toMatchObject({ code: 'NO_WEIGHTS' });
  const torch = memoryDirectory(new Map([['pytorch_model.bin', new Uint8Array(1)]]));
  await expect(openCheckpoint(torch)).rejects.toThrow('pytorch_model.bin: save it with transformers');
});

it('refuses a directory that a conversion has not left yet', async () => {
  const files = new Map([
    ['model.safetensors', await shard('a')],
    ['conversion-unfinished', new Uint8Array(0)],
  ]);
  await expect(openCheckpoint(memoryDirectory(files))).rejects.toMatchObject({ code: 'CONVERSION_UNFINISHED' });
});

describe('a directory on disk', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'checkpoint-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('opens what transformers wrote in shards', async () => {
    const checkpoint = await readCheckpoint(join(FIXTURES, 'layouts', 'sharded'));
    expect(checkpoint.files).toHaveLength(3);
    expect(checkpoint.warnings).toEqual([]);
    const index = JSON.parse(readFileSync(join(FIXTURES, 'layouts', 'sharded', 'model.safetensors.index.json'), 'utf8')) as { weight_map: object };
    expect([...checkpoint.names].sort()).toEqual(Object.keys(index.weight_map).sort());
    await checkpoint.close();
    await checkpoint.close();
  });

  it('names a missing directory, and a file where a directory belongs', async () => {
    await expect(openDirectory(join(folder, 'absent'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    await writeFile(join(folder, 'file'), 'x');
    await expect(openDirectory(join(folder, 'file'))).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' });
  });

  it('reads text and JSON with named errors', async () => {
    await writeFile(join(folder, 'bad.json'), '{');
    await writeFile(join(folder, 'binary.json'), Uint8Array.of(0xff, 0xfe));
    const opened = await openDirectory(folder);
    expect(await readText(opened, 'bad.json')).toBe('{');
    await expect(readJson(opened, 'bad.json')).rejects.toMatchObject({ code: 'NOT_JSON' });
    await expect(readJson(opened, 'binary.json')).rejects.toMatchObject({ code: 'NOT_UTF8' });
    await expect(readJson(opened, 'absent.json')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  });
});

it('reads a checkpoint below a URL by ranges alone', async () => {
  const file = await shard('a', 'b');
  const requests: string[] = [];
  const fetched = (async (url: string, init: RequestInit) => {
    if (!url.endsWith('/model.safetensors')) return new Response(null, { status: 404 });
    if (init.method === 'HEAD') return new Response(null, { status: 200 });
    const range = (init.headers as Record<string, string>).Range as string;
    requests.push(range);
    const [begin, end] = range.slice('bytes='.length).split('-').map(Number) as [number, number];
    return new Response(file.slice(begin, end + 1), { status: 206, headers: { 'Content-Range': `bytes ${begin}-${end}/${file.length}` } });
  }) as typeof fetch;
  const checkpoint = await openCheckpoint(urlDirectory('https://host.example/model', { fetch: fetched }));
  requests.length = 0;
  expect([...(await checkpoint.bytes('b'))]).toEqual([1]);
  expect(requests).toEqual([`bytes=${file.length - 1}-${file.length - 1}`]);
});
