import { assemble } from './safetensors_files';

const encoder = new TextEncoder();
const file = (header: string | Uint8Array, dataLength = 0, length?: bigint): Uint8Array =>
  assemble(typeof header === 'string' ? encoder.encode(header) : header, dataLength, length);
const entry = (dtype = '"F32"', shape = '[1]', offsets = '[0,4]', extra = ''): string =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}${extra}}`;
const one = (value: string, dataLength = 4): Uint8Array => file(`{"t":${value}}`, dataLength);

const HEADERS = [
  ...[
    '{}',
    ' {}',
    '{} ',
    '\n\t\r {}\n',
    '\ufeff{}',
    '{}\0',
    '\0{}',
    '[]',
    'null',
    '1',
    '"a"',
    '',
    '{',
    '{}{}',
    "{'a':1}",
    '{"a":}',
    '{"a"}',
    '{,}',
    '{//\n}',
  ],
  ...['{"a":null}', '{"a":[]}', '{"a":{}}', '{"__metadata__":null}', '{"__metadata__":{}}', '{"__metadata__":[]}', '{"__metadata__":1}'],
  ...['{"__metadata__":{"a":1}}', '{"__metadata__":{"a":null}}', '{"__metadata__":{"":""}}', '{"__metadata__":{"a":"b","a":"c"}}'],
  ...['{"__metadata__":{},"__metadata__":{}}', '{"\\u005f_metadata__":{"a":"b"},"__metadata__":{}}', '{"__metadata__":{"F32":null}}'],
];
const DTYPES = [
  ...[
    'F64',
    'F32',
    'F16',
    'BF16',
    'I64',
    'I32',
    'I16',
    'I8',
    'U64',
    'U32',
    'U16',
    'U8',
    'BOOL',
    'C64',
    'F8_E4M3',
    'F8_E5M2',
    'F8_E8M0',
    'F8_E4M3FNUZ',
  ],
  ...['F8_E5M2FNUZ', 'F6_E2M3', 'F6_E3M2', 'F4', 'f32', 'F128', '', 'float32', 'I4', 'Bool'],
];
const NUMBERS = [
  ...[
    '0',
    '1',
    '2',
    '-0',
    '-1',
    '2.0',
    '2e0',
    '1E0',
    '0.5',
    '01',
    '+1',
    '1.',
    '.5',
    '18446744073709551615',
    '18446744073709551616',
    '4503599627370496',
  ],
  ...['4611686018427387904', '9007199254740991', '9007199254740992', '9007199254740993', '1e999', '1.7976931348623157e308', '1.7976931348623158e308'],
  ...[
    '1.7976931348623159e308',
    '-1.7976931348623158e308',
    '17976931348623157e292',
    '1e-999',
    '0e999',
    '"1"',
    'null',
    'true',
    '[1]',
    '{}',
    'NaN',
    'Infinity',
  ],
  ...['0x1', ''],
];
const EXTRAS = [
  ...['"dtype":"F32"', '"shape":[1]', '"data_offsets":[0,4]', '"x":1', '"x":1,"x":2', '"x":{"y":1,"y":2}', '"__proto__":1', '"x":"\\ud83d\\ude00"'],
  ...[
    '"x":"\\ud800"',
    '"x":"\\udc00\\ud800"',
    '"x":"\\ud800\\u0041"',
    '"x":"\\u12"',
    '"x":"\\q"',
    '"x":"\t"',
    '"x":"\\u0000"',
    '"d\\u0074ype":"F32"',
  ],
];
const NAMES = ['', '\\u0000', '__proto__', 'constructor', '😀', '\\ud83d\\ude00', '\\ud83d', '\\ude00', 'a\\"b', 'a/b', '\\/', 'é', '\x7f', '\u2028'];
/** Begin and end of two tensors: in order, out of order, the same, overlapping, apart, empty. */
const PAIRS = [
  [0, 4, 4, 8],
  [4, 8, 0, 4],
  [0, 4, 0, 4],
  [0, 4, 2, 6],
  [0, 4, 6, 10],
  [0, 4, 4, 4],
  [0, 0, 0, 4],
  [4, 4, 0, 4],
  [2, 2, 0, 4],
  [0, 0, 0, 0],
  [1, 5, 5, 9],
] as const;

/** Cases that chance might miss, the same at every run. */
export function corners(): Uint8Array[] {
  const files: Uint8Array[] = HEADERS.map((header) => file(header));
  files.push(file('{}', 4), encoder.encode('version https://git-lfs.github.com/spec/v1\n'));
  for (const dtype of DTYPES) {
    for (const count of [0, 1, 2, 3, 4, 8]) {
      for (const bytes of [0, 1, 2, 3, 4, 6, 8, 16, 32, 64]) files.push(one(entry(`"${dtype}"`, `[${count}]`, `[0,${bytes}]`), bytes));
    }
  }
  for (const number of NUMBERS) {
    files.push(one(entry('"F32"', `[${number}]`)), one(entry('"F32"', `[0,${number}]`, '[0,0]'), 0));
    files.push(one(entry('"F32"', `[${number},${number},0]`, '[0,0]'), 0), one(entry('"F4"', `[2,${number}]`, `[0,${number}]`), 1));
    files.push(one(entry('"F32"', '[1]', `[${number},4]`)), one(entry('"F32"', '[2]', `[0,${number}]`), 8));
    files.push(one(entry('"F32"', '[1]', '[0,4]', `,"x":${number}`)));
  }
  for (const offsets of ['[]', '[0]', '[0,4,4]', '[4,0]', '[4,8]', '{}', 'null', '"0,4"', '[0,3]', '[0,5]', '[1,5]'])
    files.push(one(entry('"F32"', '[1]', offsets)));
  for (const extra of EXTRAS) files.push(one(entry('"F32"', '[1]', '[0,4]', `,${extra}`)));
  for (let code = 0; code < 0x21; code++) files.push(one(entry('"F32"', '[1]', '[0,4]', `,"x":"${String.fromCharCode(code)}"`)));
  for (const field of ['dtype', 'shape', 'data_offsets']) {
    const fields: Record<string, string> = { dtype: '"F32"', shape: '[1]', data_offsets: '[0,4]' };
    const text = (): string => `{${Object.entries(fields).map(([key, value]) => `"${key}":${value}`)}}`;
    for (const value of [
      'null',
      '1',
      '"F32"',
      '[]',
      '{}',
      '{"F32":null}',
      '{"F32":{}}',
      '{"F32":0}',
      '{"F32":null,"F32":null}',
      '["F32"]',
      '{"":null}',
    ]) {
      fields[field] = value;
      files.push(one(text()));
    }
    delete fields[field];
    files.push(one(text()));
  }
  files.push(one('["F32",[1],[0,4]]'), one('["F32",[1]]'), one('["F32",[1],[0,4],0]'), one('[[1],"F32",[0,4]]'));
  for (const depth of [3, 64, 125, 126, 127, 128, 129, 1000]) {
    files.push(one(entry('"F32"', '[1]', '[0,4]', `,"x":${'['.repeat(depth - 2)}${']'.repeat(depth - 2)}`)));
    files.push(one(entry('"F32"', '[1]', '[0,4]', `,"x":${'{"":'.repeat(depth - 2)}0${'}'.repeat(depth - 2)}`)));
  }
  for (const name of NAMES) files.push(file(`{"${name}":${entry()}}`, 4));
  files.push(file(`{"t":${entry()},"t":${entry()}}`, 4));
  for (const bytes of [[0xff], [0xed, 0xa0, 0x80], [0xc0, 0xaf], [0xf4, 0x90, 0x80, 0x80]]) {
    files.push(file(Uint8Array.from([0x7b, 0x22, ...bytes, 0x22, 0x3a, ...encoder.encode(`${entry()}}`)]), 4));
  }
  for (const [a, b, c, d] of PAIRS) {
    const sized = (begin: number, end: number): string => entry('"F32"', end > begin ? '[1]' : '[0]', `[${begin},${end}]`);
    for (const more of [-1, 0, 1]) files.push(file(`{"x":${sized(a, b)},"y":${sized(c, d)}}`, Math.max(0, Math.max(b, d) + more)));
  }
  for (let size = 0; size < 9; size++) files.push(new Uint8Array(size));
  for (const length of [0n, 1n, 2n, 3n, 100_000_000n, 100_000_001n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) files.push(file('{}', 0, length));
  const whole = file(`{"__metadata__":{"format":"pt"},"a":${entry()},"b":${entry('"BF16"', '[2,2]', '[4,12]')}}`, 12);
  for (let end = 0; end <= whole.length; end++) files.push(whole.slice(0, end));
  return files;
}
