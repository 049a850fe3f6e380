import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { convertCheckpoint } from '../../convert/convert';
import { parsePrecision, parseSize } from '../../convert/options';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { type Dtype, toFloat32 } from '../../weights/dtype';
import { mapNames } from '../../weights/layouts';
import { writeSafetensors } from '../../weights/safetensors_node';

const LAYOUTS = join(__dirname, '..', 'fixtures', 'layouts');
let folder: string;
let next = 0;
const target = (): string => join(folder, `target-${next++}`);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'convert-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Values by declared names, buffers left out. */
async function valuesOf(directory: string): Promise<Map<string, number[]>> {
  const checkpoint = await readCheckpoint(directory);
  const { stored } = mapNames(checkpoint.names);
  const values = new Map<string, number[]>();
  for (const name of [...stored.keys()].sort()) {
    const key = stored.get(name)!;
    values.set(name, [...toFloat32(checkpoint.info(key).dtype as Dtype, await checkpoint.bytes(key))]);
  }
  await checkpoint.close();
  return values;
}

async function source(values: number[], dtype: 'F32' | 'F16' | 'BF16' | 'F64' = 'F32'): Promise<string> {
  const directory = target();
  await mkdir(directory);
  const bytes = new Uint8Array((dtype === 'F64' ? Float64Array : Float32Array).from(values).buffer);
  await writeSafetensors(join(directory, 'model.safetensors'), { weight: { dtype, shape: [values.length], bytes } });
  return directory;
}

describe('the same values', () => {
  it('come out of every precision and layout and go back', async () => {
    const wanted = await valuesOf(join(LAYOUTS, 'mixed'));
    let from = join(LAYOUTS, 'older');
    for (const [layout, dtype] of [
      ['newer', 'bfloat16'],
      ['mixed', 'float16'],
      ['newer-flat', 'float32'],
      ['older', 'bfloat16'],
    ] as const) {
      const to = target();
      const report = await convertCheckpoint(from, to, { layout, dtype });
      expect(report.dropped.length).toBe(from.endsWith('older') && layout === 'newer' ? 2 : 0);
      const checkpoint = await readCheckpoint(to);
      expect(mapNames(checkpoint.names)).toMatchObject({ layout: { name: layout }, unknown: [] });
      expect(new Set(checkpoint.names.map((name) => checkpoint.info(name).dtype))).toEqual(
        new Set([{ bfloat16: 'BF16', float16: 'F16', float32: 'F32' }[dtype]]),
      );
      await checkpoint.close();
      expect(await valuesOf(to)).toEqual(wanted);
      from = to;
    }
  });

  it('are there in shards of any size, and joined again byte by byte', async () => {
    const [sharded, joined, once] = [target(), target(), target()];
    const { files } = await convertCheckpoint(join(LAYOUTS, 'mixed'), sharded, { maxShardBytes: 10000 });
    expect(files).toEqual([
      'model-00001-of-00004.safetensors',
      'model-00002-of-00004.safetensors',
      'model-00003-of-00004.safetensors',
      'model-00004-of-00004.safetensors',
    ]);
    const checkpoint = await readCheckpoint(sharded);
    expect(checkpoint.warnings).toEqual([]);
    for (const file of checkpoint.files) expect(file.names.reduce((sum, name) => sum + file.info(name).byteLength, 0)).toBeLessThanOrEqual(10000);
    await checkpoint.close();
    await convertCheckpoint(sharded, joined);
    await convertCheckpoint(join(LAYOUTS, 'mixed'), once);
    expect(Buffer.compare(await readFile(join(joined, 'model.safetensors')), await readFile(join(once, 'model.safetensors')))).toBe(0);
    expect((await readdir(joined)).sort()).toEqual(['SHA256SUMS', 'config.json', 'model.safetensors']);
  });

  it('are rounded to nearest on the way to half precision', async () => {
    const to = target();
    await convertCheckpoint(await source([1 + 2 ** -8, 1 + 3 * 2 ** -8, -3.14]), to, { dtype: 'bfloat16' });
    expect(await rawValues(to)).toEqual([1, 1.015625, -3.140625]);
  });
});

async function rawValues(directory: string): Promise<number[]> {
  const checkpoint = await readCheckpoint(directory);
  const values = toFloat32(checkpoint.info('weight').dtype as Dtype, await checkpoint.bytes('weight'));
  await checkpoint.close();
  return [...values];
}

describe('files beside the weights', () => {
  it('are copied, links too, and config.json names the new precision while its other text stays', async () => {
    const from = target();
    await mkdir(join(from, 'nested'), { recursive: true });
    await cp(join(LAYOUTS, 'older'), from, { recursive: true });
    await writeFile(join(from, 'tokenizer.json'), '{"a": 1.0}');
    await writeFile(join(from, 'pytorch_model.bin'), 'old');
    await writeFile(join(folder, 'blob'), 'linked');
    await symlink(join(folder, 'blob'), join(from, 'chat_template.jinja'));
    const to = target();
    const { copied } = await convertCheckpoint(from, to, { dtype: 'bfloat16' });
    expect(copied).toEqual(['chat_template.jinja', 'config.json', 'tokenizer.json']);
    expect(await readFile(join(to, 'tokenizer.json'), 'utf8')).toBe('{"a": 1.0}');
    expect(await readFile(join(to, 'chat_template.jinja'), 'utf8')).toBe('linked');
    const before = await readFile(join(from, 'config.json'), 'utf8');
    expect(await readFile(join(to, 'config.json'), 'utf8')).toBe(before.replaceAll('"torch_dtype": "float16"', '"torch_dtype": "bfloat16"'));
  });
});

describe('a conversion that does not end', () => {
  const remains = async (): Promise<string[]> => (await readdir(folder)).filter((name) => name.includes('.partial-'));

  it('leaves nothing when values do not fit, and says which', async () => {
    const to = target();
    await expect(convertCheckpoint(await source([1, 1e6, -7e4, 65504]), to, { dtype: 'float16' })).rejects.toMatchObject({
      code: 'F16_OVERFLOW',
      message: expect.stringContaining('"weight": 2 finite value(s)'),
    });
    await expect(convertCheckpoint(await source([1, 1e300, Infinity], 'F64'), to, { dtype: 'float32' })).rejects.toMatchObject({
      code: 'F32_OVERFLOW',
    });
    expect(await remains()).toEqual([]);
    await expect(readdir(to)).rejects.toThrow('ENOENT');
  });

  it('leaves nothing when it is aborted', async () => {
    const to = target();
    const abort = new AbortController();
    const converting = convertCheckpoint(join(LAYOUTS, 'older'), to, { signal: abort.signal, progress: () => abort.abort(new Error('enough')) });
    await expect(converting).rejects.toThrow('enough');
    expect(await remains()).toEqual([]);
    await expect(readdir(to)).rejects.toThrow('ENOENT');
  });

  it('is recognised by its mark, and never loaded, when the process was killed', async () => {
    let seen: unknown;
    const looking: Promise<void>[] = [];
    await convertCheckpoint(join(LAYOUTS, 'older'), target(), {
      maxShardBytes: 20000,
      progress: ({ bytes }) => {
        if (bytes > 30000 && looking.length === 0) looking.push(look());
      },
    });
    async function look(): Promise<void> {
      const [partial] = await remains();
      seen = await readCheckpoint(join(folder, partial!)).catch((error: unknown) => error);
    }
    await Promise.all(looking);
    expect(seen).toMatchObject({ code: 'CONVERSION_UNFINISHED' });
  });

  it('does not touch what was there before', async () => {
    const to = await source([1, 2]);
    const from = await source([3, 1e9]);
    await expect(convertCheckpoint(from, to)).rejects.toMatchObject({ code: 'TARGET_EXISTS' });
    await expect(convertCheckpoint(from, to, { dtype: 'float16', overwrite: true })).rejects.toMatchObject({ code: 'F16_OVERFLOW' });
    expect(await rawValues(to)).toEqual([1, 2]);
    await convertCheckpoint(from, to, { overwrite: true });
    expect(await rawValues(to)).toEqual([3, 1e9]);
    await expect(convertCheckpoint(to, `${to}/../${to.split('/').pop()}`)).rejects.toMatchObject({ code: 'SAME_DIRECTORY' });
    expect(await remains()).toEqual([]);
  });
});

describe('a mistake is named', () => {
  it('NaN in the weights, on request', async () => {
    const from = await source([1, NaN]);
    await expect(convertCheckpoint(from, target(), { checkFinite: true })).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringContaining('element 1 of "weight" is NaN'),
    });
    const to = target();
    await convertCheckpoint(from, to, { dtype: 'bfloat16' });
    expect(await rawValues(to)).toEqual([1, NaN]);
  });

  it('keys that the layout has no place for', async () => {
    await expect(convertCheckpoint(await source([1]), target(), { layout: 'mixed' })).rejects.toMatchObject({ code: 'UNEXPECTED_KEYS' });
    await expect(convertCheckpoint(join(LAYOUTS, 'older'), target(), { layout: 'llama' })).rejects.toMatchObject({ code: 'UNEXPECTED_KEYS' });
    await expect(convertCheckpoint(join(LAYOUTS, 'older'), target(), { layout: 'newest' })).rejects.toMatchObject({ code: 'UNKNOWN_LAYOUT' });
  });

  it('a precision, a size or a shard that is none', async () => {
    expect(() => parsePrecision('fp8')).toThrow('Known: float32, float16, bfloat16');
    expect(() => parsePrecision('toString')).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
    for (const size of ['', '0', 'GB', '-1GB', '1 TB', '1e9', '0.1'])
      expect(() => parseSize(size)).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
    expect(['1GB', '1.5 GiB', '500mb', '1000'].map(parseSize)).toEqual([1e9, 1.5 * 2 ** 30, 5e8, 1000]);
    await expect(convertCheckpoint(join(LAYOUTS, 'older'), target(), { maxShardBytes: 0.5 })).rejects.toMatchObject({ code: 'BAD_OPTION' });
  });
});

it('runs from source through ts-node', async () => {
  const to = target();
  const root = join(__dirname, '..', '..');
  const run = promisify(execFile);
  const args = [
    join('node_modules', 'ts-node', 'dist', 'bin.js'),
    join('convert', 'main.ts'),
    join(LAYOUTS, 'older'),
    to,
    '--dtype',
    'bfloat16',
    '--max-shard-size',
    '12KB',
  ];
  const { stdout, stderr } = await run(process.execPath, args, { cwd: root });
  expect(stdout).toMatch(/tensors, 0\.0 MB in \d file\(s\), and config\.json/);
  expect(stderr).toBe('');
  expect(await readdir(to)).toContain('model.safetensors.index.json');
  const failing = run(process.execPath, args, { cwd: root });
  await expect(failing).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('error [TARGET_EXISTS]: ') });
}, 300000); // two compilations, on a machine that may be busy
