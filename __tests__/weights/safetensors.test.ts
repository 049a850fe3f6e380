import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { CheckpointError } from '../../layers/errors';
import { memorySource } from '../../weights/byte_source';
import { openSafetensors, type SafetensorsFile } from '../../weights/safetensors';
import { readSafetensors, writeSafetensors } from '../../weights/safetensors_node';
import { encodeSafetensors, type StoredTensor } from '../../weights/safetensors_write';

const open = (bytes: Uint8Array): Promise<SafetensorsFile> => openSafetensors(memorySource(bytes, 'test.safetensors'));

function file(header: string | Uint8Array, data = 0, length?: bigint): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.byteLength + data);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.byteLength), true);
  bytes.set(text, 8);
  return bytes;
}

const entry = (dtype = '"F32"', shape = '[1]', offsets = '[0,4]'): string => `{"t":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}}`;
const two = (a: string, b: string): string =>
  `{"a":{"dtype":"F32","shape":[1],"data_offsets":${a}},"b":{"dtype":"F32","shape":[1],"data_offsets":${b}}}`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a bad file is refused by name', () => {
  const cases: [what: string, bytes: Uint8Array, code: string][] = [
    ['an empty file', new Uint8Array(0), 'FILE_TOO_SHORT'],
    ['a file under 8 bytes', new Uint8Array(7), 'FILE_TOO_SHORT'],
    ['a header longer than the file', file('{}', 0, 3n), 'HEADER_PAST_END'],
    ['a header over 100 MB', file('{}', 0, 100_000_001n), 'HEADER_TOO_LARGE'],
    ['a length from 2^53', file('{}', 0, 2n ** 63n), 'HEADER_TOO_LARGE'],
    ['a header that is not UTF-8', file(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), 'HEADER_NOT_UTF8'],
    ['no JSON', file('{"a":'), 'HEADER_NOT_JSON'],
    ['a byte-order mark', file('\ufeff{}'), 'HEADER_NOT_JSON'],
    ['a NUL after the object', file('{}\0'), 'HEADER_NOT_JSON'],
    ['a lone surrogate', file(entry().replace('"t"', '"\\ud800"'), 4), 'HEADER_NOT_JSON'],
    ['128 levels', file(entry('"F32"', `[1],"x":${'['.repeat(126)}${']'.repeat(126)}`), 4), 'HEADER_NOT_JSON'],
    ['an array', file('[]'), 'HEADER_NOT_OBJECT'],
    ['null', file('null'), 'HEADER_NOT_OBJECT'],
    ['a tensor name twice', file(entry().replace('}}', '},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'), 4), 'DUPLICATE_KEY'],
    ['a field twice', file(entry().replace('}}', ',"dtype":"F32"}}'), 4), 'DUPLICATE_KEY'],
    ['a metadata key twice', file('{"__metadata__":{"a":"b","a":"c"}}'), 'DUPLICATE_KEY'],
    ['__metadata__ twice', file('{"__metadata__":{},"__metadata__":{}}'), 'DUPLICATE_KEY'],
    ['metadata that is no string', file('{"__metadata__":{"a":1}}'), 'METADATA_NOT_STRINGS'],
    ['metadata that is a list', file('{"__metadata__":[]}'), 'METADATA_NOT_STRINGS'],
    ['no dtype', file('{"t":{"shape":[1],"data_offsets":[0,4]}}', 4), 'ENTRY_FIELD_MISSING'],
    ['no shape', file('{"t":{"dtype":"F32","data_offsets":[0,4]}}', 4), 'ENTRY_FIELD_MISSING'],
    ['no data_offsets', file('{"t":{"dtype":"F32","shape":[1]}}', 4), 'ENTRY_FIELD_MISSING'],
    ['a dtype that is no string', file(entry('{"F32":1}'), 4), 'ENTRY_FIELD_TYPE'],
    ['a shape that is no array', file(entry('"F32"', '1'), 4), 'ENTRY_FIELD_TYPE'],
    ['a dimension that is a string', file(entry('"F32"', '["1"]'), 4), 'ENTRY_FIELD_TYPE'],
    ['an entry written as a list', file('{"t":["F32",[1],[0,4]]}', 4), 'ENTRY_NOT_OBJECT'],
    ['an unknown dtype', file(entry('"F31"'), 4), 'UNKNOWN_DTYPE'],
    ['a negative dimension', file(entry('"F32"', '[-1]'), 4), 'BAD_DIMENSION'],
    ['a dimension of 1.0', file(entry('"F32"', '[1.0]'), 4), 'BAD_DIMENSION'],
    ['a dimension of 1e0', file(entry('"F32"', '[1e0]'), 4), 'BAD_DIMENSION'],
    ['a dimension of -0', file(entry('"F32"', '[-0]', '[0,0]')), 'BAD_DIMENSION'],
    ['a dimension of 2^64', file(entry('"F32"', '[0,18446744073709551616]', '[0,0]')), 'BAD_DIMENSION'],
    ['a dimension that JavaScript rounds', file(entry('"F32"', '[0,9007199254740993]', '[0,0]')), 'BAD_DIMENSION'],
    ['a product over 64 bits', file(entry('"F32"', '[4294967296,4294967296]'), 4), 'SIZE_OVERFLOW'],
    ['reversed offsets', file(entry('"F32"', '[1]', '[4,0]'), 4), 'BAD_OFFSETS'],
    ['negative offsets', file(entry('"F32"', '[1]', '[-4,0]'), 4), 'BAD_OFFSETS'],
    ['fractional offsets', file(entry('"F32"', '[1]', '[0,4.0]'), 4), 'BAD_OFFSETS'],
    ['three offsets', file(entry('"F32"', '[1]', '[0,4,4]'), 4), 'BAD_OFFSETS'],
    ['a size unlike shape x dtype', file(entry('"F32"', '[2]'), 4), 'SIZE_MISMATCH'],
    ['an F4 tensor that ends inside a byte', file(entry('"F4"', '[3]', '[0,1]'), 1), 'PARTIAL_BYTE'],
    ['an overlap', file(two('[0,4]', '[2,6]'), 6), 'TENSOR_OVERLAP'],
    ['a hole between tensors', file(two('[0,4]', '[6,10]'), 10), 'TENSOR_HOLE'],
    ['a hole before the first tensor', file(entry('"F32"', '[1]', '[1,5]'), 5), 'TENSOR_HOLE'],
    ['trailing bytes', file(entry(), 5), 'TRAILING_BYTES'],
    ['{} with data behind it', file('{}', 1), 'TRAILING_BYTES'],
    ['a cut file', file(entry(), 3), 'FILE_TRUNCATED'],
    ['a git-LFS pointer', new TextEncoder().encode('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'), 'GIT_LFS_POINTER'],
  ];

  it.each(cases)('%s', async (_what, bytes, code) => {
    const error = await open(bytes).then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as CheckpointError).code).toBe(code);
    expect((error as CheckpointError).message).toContain('test.safetensors');
  });

  it('closes the source that it could not read', async () => {
    const source = memorySource(new Uint8Array(3));
    source.close = jest.fn(async () => {});
    await expect(openSafetensors(source)).rejects.toThrow();
    expect(source.close).toHaveBeenCalledTimes(1);
  });
});

describe('reading', () => {
  it('keeps names that are special to JavaScript, empty, or not ASCII', async () => {
    const names = ['__proto__', 'constructor', '', 'a\u0000b', '😀'];
    const tensors = new Map<string, StoredTensor>(names.map((name, i) => [name, { dtype: 'U8', shape: [1], bytes: Uint8Array.of(i) }]));
    const read = await open(await encodeSafetensors(tensors));
    expect([...read.names].sort()).toEqual([...names].sort());
    for (const [i, name] of names.entries()) expect([...(await read.bytes(name))]).toEqual([i]);
    expect(read.has('toString')).toBe(false);
    await expect(read.tensor('toString')).rejects.toMatchObject({ code: 'NO_SUCH_TENSOR' });
  });

  it('reads scalars, tensors without elements, and ones at odd addresses', async () => {
    const header = `{"empty":{"dtype":"F32","shape":[0,99999999999999],"data_offsets":[1,1]},"odd":{"dtype":"F32","shape":[],"data_offsets":[1,5]},"byte":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`;
    const bytes = file(header, 5);
    new DataView(bytes.buffer).setFloat32(bytes.byteLength - 4, 2.5, true);
    const read = await open(bytes);
    const odd = await read.tensor('odd');
    const empty = await read.tensor('empty');
    expect([odd.shape, await odd.data()]).toEqual([[], Float32Array.of(2.5)]);
    expect(empty.shape).toEqual([0, 99999999999999]);
    expect(read.names).toEqual(['byte', 'empty', 'odd']);
    tf.dispose([odd, empty]);
  });

  it('maps every dtype to the type that TensorFlow.js has for it', async () => {
    const stored = (dtype: string, values: { buffer: ArrayBufferLike; length: number }): StoredTensor => ({
      dtype,
      shape: [values.length],
      bytes: new Uint8Array(values.buffer),
    });
    const read = await open(
      await encodeSafetensors({
        f64: stored('F64', Float64Array.of(0.1, -1e300)),
        i64: stored('I64', BigInt64Array.of(-7n, 2147483647n)),
        u64: stored('U64', BigUint64Array.of(7n)),
        u32: stored('U32', Uint32Array.of(2147483648)),
        i16: stored('I16', Int16Array.of(-300)),
        i8: stored('I8', Int8Array.of(-3)),
        bool: stored('BOOL', Uint8Array.of(0, 1, 1)),
        bf16: stored('BF16', Uint16Array.of(0x3fc0)),
        f16: stored('F16', Uint16Array.of(0x3e00)),
        f8: stored('F8_E4M3', Uint8Array.of(1)),
      }),
    );
    const value = async (name: string): Promise<unknown> => {
      const tensor = await read.tensor(name);
      const result = [tensor.dtype, ...(await tensor.data())];
      tensor.dispose();
      return result;
    };
    expect(await value('f64')).toEqual(['float32', Math.fround(0.1), -Infinity]);
    expect(await value('i64')).toEqual(['int32', -7, 2147483647]);
    expect(await value('u64')).toEqual(['int32', 7]);
    expect(await value('i16')).toEqual(['int32', -300]);
    expect(await value('i8')).toEqual(['int32', -3]);
    expect(await value('bool')).toEqual(['bool', 0, 1, 1]);
    expect(await value('bf16')).toEqual(['float32', 1.5]);
    expect(await value('f16')).toEqual(['float32', 1.5]);
    await expect(read.tensor('u32')).rejects.toMatchObject({ code: 'INTEGER_OUT_OF_RANGE' });
    await expect(read.tensor('f8')).rejects.toMatchObject({ code: 'UNSUPPORTED_DTYPE' });
    expect((await read.bytes('f8')).byteLength).toBe(1);
  });

  it('reads only what is asked for', async () => {
    const source = memorySource(await encodeSafetensors({ a: { dtype: 'U8', shape: [1000], bytes: new Uint8Array(1000) } }));
    const read = jest.spyOn(source, 'read');
    await openSafetensors(source);
    expect(Math.max(...read.mock.calls.map(([offset, length]) => offset + length))).toBeLessThanOrEqual(source.size - 1000);
  });

  it('tells of a file that shrinks after it was opened, and of one that was closed', async () => {
    const path = join(folder, 'shrinks.safetensors');
    await writeSafetensors(path, { a: { dtype: 'U8', shape: [1000], bytes: new Uint8Array(1000) } });
    const read = await readSafetensors(path);
    await truncate(path, 500);
    await expect(read.bytes('a')).rejects.toMatchObject({ code: 'FILE_SHRANK' });
    await read.close();
    await expect(read.bytes('a')).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});

describe('writing', () => {
  it('comes back with names, shapes, values and metadata', async () => {
    const tensors = { weight: tf.tensor2d([[1, 2.5, -3]]), ids: tf.tensor1d([1, -2], 'int32'), flag: tf.scalar(true) };
    const path = join(folder, 'round.safetensors');
    await writeSafetensors(path, tensors, { format: 'pt', note: 'Grüße "😀"' });
    const read = await readSafetensors(path);
    expect(read.metadata).toEqual(
      new Map([
        ['format', 'pt'],
        ['note', 'Grüße "😀"'],
      ]),
    );
    for (const [name, tensor] of Object.entries(tensors)) {
      const back = await read.tensor(name);
      expect([back.dtype, back.shape, await back.data()]).toEqual([tensor.dtype, tensor.shape, await tensor.data()]);
      back.dispose();
    }
    await read.close();
    tf.dispose(tensors);
  });

  it('gives the same bytes whatever order the tensors come in, aligned to their size', async () => {
    const parts: [string, StoredTensor][] = [
      ['b', { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) }],
      ['a', { dtype: 'U8', shape: [3], bytes: new Uint8Array(3) }],
      ['c', { dtype: 'BF16', shape: [5], bytes: new Uint8Array(10) }],
    ];
    const forward = await encodeSafetensors(new Map(parts), { x: '1', y: '2' });
    const backward = await encodeSafetensors(new Map([...parts].reverse()), { y: '2', x: '1' });
    expect(Buffer.compare(forward, backward)).toBe(0);
    const read = await open(forward);
    expect(read.names).toEqual(['b', 'c', 'a']);
    expect(read.names.map((name) => read.info(name).offset % 2)).toEqual([0, 0, 0]);
    expect(new DataView(forward.buffer).getBigUint64(0, true) % 8n).toBe(0n);
  });

  it('refuses to turn finite weights into infinity', async () => {
    const big = tf.tensor1d([1, 1e6]);
    await expect(encodeSafetensors({ big }, {}, { dtype: 'F16' })).rejects.toMatchObject({ code: 'F16_OVERFLOW' });
    expect((await open(await encodeSafetensors({ big }, {}, { dtype: 'BF16' }))).info('big').dtype).toBe('BF16');
    big.dispose();
  });

  it('leaves neither a file nor a temporary one when it fails or is aborted', async () => {
    const target = await mkdtemp(join(folder, 'failing-'));
    const failing: StoredTensor = { dtype: 'U8', shape: [1], bytes: () => Promise.reject(new Error('disk of the source')) };
    const wrong: StoredTensor = { dtype: 'U8', shape: [1], bytes: new Uint8Array(2) };
    const right: StoredTensor = { dtype: 'U8', shape: [1], bytes: new Uint8Array(1) };
    await expect(writeSafetensors(join(target, 'x'), { failing })).rejects.toThrow('disk of the source');
    await expect(writeSafetensors(join(target, 'x'), { wrong })).rejects.toMatchObject({ code: 'SIZE_MISMATCH' });
    await expect(writeSafetensors(join(target, 'x'), { right }, {}, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
    await expect(writeSafetensors(join(target, 'no', 'x'), { right })).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    expect(await readdir(target)).toEqual([]);
  });

  it('keeps the old file until the new one is whole', async () => {
    const path = join(folder, 'kept.safetensors');
    await writeFile(path, 'old');
    const failing: StoredTensor = { dtype: 'U8', shape: [1], bytes: () => Promise.reject(new Error('no')) };
    await expect(writeSafetensors(path, { failing })).rejects.toThrow('no');
    expect(await readFile(path, 'utf8')).toBe('old');
  });

  it.each([
    ['__metadata__', 'BAD_NAME'],
    ['\ud800', 'BAD_NAME'],
  ])('refuses the name %j, which no reader takes', async (name, code) => {
    await expect(encodeSafetensors(new Map([[name, { dtype: 'U8', shape: [1], bytes: new Uint8Array(1) }]]))).rejects.toMatchObject({ code });
  });
});
