import { chmod, mkdir, readFile, truncate } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { readSafetensors, useBackend } from '../../lib/index';
import { fileOf, newPath, type Refusal, refuses, safetensors, useFolder, works } from './refusal';

const SHIPPED = join(__dirname, '../../weights/vispruner-tiny/model.safetensors');

useFolder();
beforeAll(() => useBackend('wasm'));

/** A header with one tensor `t`. */
function entry(dtype = '"F32"', shape = '[1]', offsets = '[0,4]'): string {
  return `{"t":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}}`;
}

/** A header with two float32 scalars. */
function two(a: string, b: string): string {
  return `{"a":{"dtype":"F32","shape":[],"data_offsets":${a}},"b":{"dtype":"F32","shape":[],"data_offsets":${b}}}`;
}

/** A file with these bytes, opened. */
function opening(content: Uint8Array | string): () => Promise<unknown> {
  return async () => readSafetensors(await fileOf(content));
}

/** To root nothing is forbidden: it becomes another user meanwhile. */
async function asUser<T>(act: () => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) return act();
  await chmod(dirname(newPath('')), 0o755);
  process.seteuid?.(65534);
  try {
    return await act();
  } finally {
    process.seteuid?.(0);
  }
}

function row(kind: Refusal['kind'], what: string, content: Uint8Array | string, code: Refusal['code'], ...tells: (string | RegExp)[]): Refusal {
  return { kind, what, act: opening(content), name: 'CheckpointError', code, tells: [/bad\.safetensors/, ...tells] };
}

refuses([
  row(1, 'an empty file', '', 'FILE_TOO_SHORT', '0 bytes'),
  row(1, 'a file of 7 bytes', '1234567', 'FILE_TOO_SHORT', '7 bytes'),
  row(2, 'a header that ends a byte behind the file', safetensors('{}', 0, 3n), 'HEADER_PAST_END', 'byte 11', '10 bytes'),
  row(3, 'a header of 100,000,001 bytes', safetensors('{}', 0, 100_000_001n), 'HEADER_TOO_LARGE', '100000001', '100000000'),
  row(4, 'a length of 2^53', safetensors('{}', 0, 2n ** 53n), 'HEADER_TOO_LARGE', '9007199254740992'),
  row(4, 'a length of 2^64 - 1', safetensors('{}', 0, 2n ** 64n - 1n), 'HEADER_TOO_LARGE', '18446744073709551615'),
  row(5, 'a byte that UTF-8 has not', safetensors(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), 'HEADER_NOT_UTF8'),
  row(6, 'half an object', safetensors('{"a":'), 'HEADER_NOT_JSON', /character 5/),
  row(6, 'an array', safetensors('[]'), 'HEADER_NOT_OBJECT', 'an array'),
  row(6, 'null', safetensors('null'), 'HEADER_NOT_OBJECT', 'null'),
  row(7, 'a tensor', safetensors(entry().replace('}}', `},${entry().slice(1)}`), 4), 'DUPLICATE_KEY', '"t"'),
  row(7, 'a field', safetensors(entry().replace('}}', ',"dtype":"F32"}}'), 4), 'DUPLICATE_KEY', '"dtype"'),
  row(8, 'a number', safetensors('{"__metadata__":{"epochs":3}}'), 'METADATA_NOT_STRINGS', '"epochs"', '3'),
  row(8, 'a list', safetensors('{"__metadata__":[]}'), 'METADATA_NOT_STRINGS', 'an array'),
  row(9, 'no dtype', safetensors('{"t":{"shape":[1],"data_offsets":[0,4]}}', 4), 'ENTRY_FIELD_MISSING', '"t"', '"dtype"'),
  row(9, 'no shape', safetensors('{"t":{"dtype":"F32","data_offsets":[0,4]}}', 4), 'ENTRY_FIELD_MISSING', '"t"', '"shape"'),
  row(9, 'no data_offsets', safetensors('{"t":{"dtype":"F32","shape":[1]}}', 4), 'ENTRY_FIELD_MISSING', '"t"', '"data_offsets"'),
  row(9, 'a dtype that is a number', safetensors(entry('32'), 4), 'ENTRY_FIELD_TYPE', '"t"', 'dtype', '32'),
  row(9, 'a shape that is a number', safetensors(entry('"F32"', '1'), 4), 'ENTRY_FIELD_TYPE', '"t"', 'shape'),
  row(9, 'an offset that is a string', safetensors(entry('"F32"', '[1]', '[0,"4"]'), 4), 'ENTRY_FIELD_TYPE', '"t"', 'data_offsets', '"4"'),
  row(9, 'an entry that is a list', safetensors('{"t":["F32",[1],[0,4]]}', 4), 'ENTRY_NOT_OBJECT', '"t"', 'an array'),
  row(10, 'F31', safetensors(entry('"F31"'), 4), 'UNKNOWN_DTYPE', '"t"', '"F31"'),
  {
    kind: 10,
    what: 'F8_E4M3, read as a tensor,',
    act: async () => {
      const file = await readSafetensors(await fileOf(safetensors(entry('"F8_E4M3"', '[4]'), 4)));
      return file.tensor('t').finally(() => file.close());
    },
    name: 'CheckpointError',
    code: 'UNSUPPORTED_DTYPE',
    tells: ['bad.safetensors', '"t"', 'F8_E4M3', 'F32, F16 or BF16'],
  },
  {
    kind: 10,
    what: 'F4, read as a tensor,',
    act: async () => {
      const file = await readSafetensors(await fileOf(safetensors(entry('"F4"', '[8]'), 4)));
      return file.tensor('t').finally(() => file.close());
    },
    name: 'CheckpointError',
    code: 'UNSUPPORTED_DTYPE',
    tells: ['bad.safetensors', '"t"', 'F4', 'F32, F16 or BF16'],
  },
  row(11, '-1', safetensors(entry('"F32"', '[-1]'), 4), 'BAD_DIMENSION', '"t"', '-1'),
  row(11, '1.5', safetensors(entry('"F32"', '[1.5]'), 4), 'BAD_DIMENSION', '"t"', '1.5'),
  row(11, '1.0', safetensors(entry('"F32"', '[1.0]'), 4), 'BAD_DIMENSION', '"t"', '1.0'),
  row(11, '2^53 + 1', safetensors(entry('"F32"', '[0,9007199254740993]', '[0,0]')), 'BAD_DIMENSION', '"t"', '9007199254740993'),
  row(12, '2^32 x 2^32', safetensors(entry('"F32"', '[4294967296,4294967296]'), 4), 'SIZE_OVERFLOW', '"t"', '[4294967296, 4294967296]'),
  row(13, 'an end before its begin', safetensors(entry('"F32"', '[1]', '[4,0]'), 4), 'BAD_OFFSETS', '"t"', '4', '0'),
  row(13, 'a negative begin', safetensors(entry('"F32"', '[1]', '[-4,0]'), 4), 'BAD_OFFSETS', '"t"', '-4'),
  row(13, 'a fractional end', safetensors(entry('"F32"', '[1]', '[0,4.5]'), 4), 'BAD_OFFSETS', '"t"', '4.5'),
  row(14, 'eight bytes of shape in four', safetensors(entry('"F32"', '[2]'), 4), 'SIZE_MISMATCH', '"t"', '[2]', '8 bytes', 'hold 4'),
  row(15, 'two bytes shared', safetensors(two('[0,4]', '[2,6]'), 6), 'TENSOR_OVERLAP', '"b"', '"a"'),
  row(16, 'two bytes of nothing', safetensors(two('[0,4]', '[6,10]'), 10), 'TENSOR_HOLE', '"b"', '"a"'),
  row(17, 'one byte', safetensors(entry(), 5), 'TRAILING_BYTES', String(8 + entry().length + 4), String(8 + entry().length + 5)),
  row(18, 'one byte short', safetensors(entry(), 3), 'FILE_TRUNCATED', String(8 + entry().length + 4), String(8 + entry().length + 3)),
  {
    kind: 19,
    what: 'a file that is cut after its header was read',
    act: async () => {
      const path = await fileOf(await readFile(SHIPPED));
      const file = await readSafetensors(path);
      await truncate(path, 100_000);
      try {
        for (const name of file.names) (await file.tensor(name)).dispose();
      } finally {
        await file.close();
      }
    },
    name: 'CheckpointError',
    code: 'FILE_SHRANK',
    tells: ['bad.safetensors', /\d+ of \d+ bytes/],
  },
  {
    kind: 23,
    what: 'a directory',
    act: async () => {
      const path = newPath('model.safetensors');
      await mkdir(path);
      return readSafetensors(path);
    },
    name: 'CheckpointError',
    code: 'IS_DIRECTORY',
    tells: ['model.safetensors', 'directory'],
  },
  row(23, 'a git-LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4200624\n', 'GIT_LFS_POINTER', 'git lfs pull'),
]);

refuses([
  {
    kind: 23,
    what: 'a file without permission',
    act: async () => {
      const path = await fileOf(safetensors('{}'));
      await chmod(path, 0o000);
      return asUser(() => readSafetensors(path));
    },
    name: 'CheckpointError',
    code: 'PERMISSION_DENIED',
    tells: ['bad.safetensors', 'chmod u+r'],
  },
]);

works(20, 'it is read as any other', async () => {
  const file = await readSafetensors(await fileOf(safetensors(entry().replace('"t"', '"__proto__"'), Uint8Array.of(0, 0, 128, 63))));
  const value = await file.tensor('__proto__');
  expect([file.names, Array.from(await value.data())]).toEqual([['__proto__'], [1]]);
  value.dispose();
  await file.close();
});

works(21, 'values are right', async () => {
  const header = entry('"F32"', '[2]', '[0,8]');
  const odd = header.padEnd(header.length + ((header.length + 1) % 2 === 0 ? 2 : 1));
  const file = await readSafetensors(await fileOf(safetensors(odd, new Uint8Array(Float32Array.of(1.5, -2).buffer))));
  expect(file.info('t').offset % 4).not.toBe(0);
  const value = await file.tensor('t');
  expect(Array.from(await value.data())).toEqual([1.5, -2]);
  value.dispose();
  await file.close();
});

works(22, 'both are tensors', async () => {
  const header = '{"none":{"dtype":"F32","shape":[3,0],"data_offsets":[0,0]},"one":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}';
  const file = await readSafetensors(await fileOf(safetensors(header, new Uint8Array(Float32Array.of(7).buffer))));
  const [none, one] = [await file.tensor('none'), await file.tensor('one')];
  expect([none.shape, one.shape, Array.from(await one.data())]).toEqual([[3, 0], [], [7]]);
  tf.dispose([none, one]);
  await file.close();
});
