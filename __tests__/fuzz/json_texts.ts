import * as fc from 'fast-check';

/** Integers around the places where some type ends, and any of up to 65 bits. */
export const integerText: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: fc.nat(9).map(String) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom(8n, 16n, 31n, 32n, 52n, 53n, 61n, 62n, 63n, 64n), fc.constantFrom(-1n, 0n, 1n))
      .map(([power, step]) => String(2n ** power + step)),
  },
  { weight: 1, arbitrary: fc.bigInt(0n, 2n ** 65n).map(String) },
);

/** Numbers that some readers take for 1, for none at all, or for infinite. */
export const numberText: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: integerText },
  { weight: 1, arbitrary: integerText.map((text) => `-${text}`) },
  { weight: 2, arbitrary: fc.constantFrom('-0', '1.0', '1e0', '4E0', '10e-1', '0.5', '-0.0', '0e0', '1e2', '4.000', '0e-1', '1e-400') },
  {
    weight: 2,
    arbitrary: fc.constantFrom('01', '00', '+1', '.5', '1.', '1e', '1e+', '-', '--1', '0x1', 'NaN', 'Infinity', '1_0', '1.e1', '٣', '1n', ''),
  },
  // around 1.797693134862315(7)e308, the largest float64, with its digits on either side of the point
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.bigInt(1797693134862315000n, 1797693134862316500n), fc.nat(18), fc.integer({ min: -2, max: 2 }))
      .map(([digits, point, step]) => withPoint(String(digits), point, 290 + point + step)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.bigInt(1n, 10n ** 28n), fc.nat(27), fc.integer({ min: 270, max: 330 }))
      .map(([digits, point, exponent]) => withPoint(String(digits), point, exponent)),
  },
  { weight: 1, arbitrary: fc.tuple(fc.nat(9), fc.integer({ min: 305, max: 311 })).map(([digit, zeros]) => `${digit}${'0'.repeat(zeros)}`) },
  { weight: 1, arbitrary: fc.integer({ min: 300, max: 340 }).map((zeros) => `0.${'0'.repeat(zeros)}17e${zeros + 309}`) },
);

function withPoint(digits: string, point: number, exponent: number): string {
  const whole = digits.slice(0, -point || undefined) || '0';
  return point === 0 ? `${whole}e${exponent}` : `${whole}.${digits.slice(-point).padStart(point, '0')}e${exponent}`;
}

const SPECIAL = [
  '',
  '__metadata__',
  '__proto__',
  'constructor',
  'dtype',
  'shape',
  'data_offsets',
  'F32',
  '\0',
  '\u2028',
  '\ufeff',
  '😀',
  'a/b',
  '..',
];

/** What a name or a text can be: any Unicode, with a liking for what means something somewhere. */
export const plainString: fc.Arbitrary<string> = fc.oneof(
  { weight: 3, arbitrary: fc.string({ maxLength: 6 }) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 6 }) },
  { weight: 1, arbitrary: fc.constantFrom(...SPECIAL) },
);

/** One character of a string spelt as an escape. */
export function respell(quoted: string, at: number): string {
  const text = quoted.slice(1, -1);
  if (!quoted.startsWith('"') || text.length === 0 || text.includes('\\')) return quoted;
  const index = at % text.length;
  const escaped = `\\u${text.charCodeAt(index).toString(16).padStart(4, '0')}`;
  return `"${text.slice(0, index)}${at % 2 === 0 ? escaped : escaped.toUpperCase().replace('U', 'u')}${text.slice(index + 1)}"`;
}

/** Strings as JSON spells them, and as it does not. */
export const stringText: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: plainString.map((text) => JSON.stringify(text)) },
  { weight: 2, arbitrary: fc.tuple(plainString, fc.nat()).map(([text, at]) => respell(JSON.stringify(text), at)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('\\/', '\\b\\f\\n\\r\\t', '\\ud83d\\ude00', '\\uD83D\\uDE00', '\\u0000', '\x7f', 'é', "'").map((text) => `"${text}"`),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(
        '\\ud83d',
        '\\ude00',
        '\\ude00\\ud83d',
        '\\ud83d\\u0041',
        '\\ud83d😀',
        '\\u12',
        '\\u 123',
        '\\x41',
        '\\',
        '\\0',
        '\t',
        '\n',
        '\0',
        '"',
      )
      .map((text) => `"${text}"`),
  },
  { weight: 1, arbitrary: fc.constantFrom("'a'", 'a', '"a', 'a"') },
);

/** Brackets, up to and beyond the depth that readers allow. */
const nested: fc.Arbitrary<string> = fc
  .tuple(fc.oneof(fc.nat(5), fc.integer({ min: 120, max: 130 }), fc.constant(1000)), fc.constantFrom('[', '{"a":'))
  .map(([depth, open]) => `${open.repeat(depth)}0${(open === '[' ? ']' : '}').repeat(depth)}`);

/** Any value, and what is none. */
export const valueText: fc.Arbitrary<string> = fc.oneof(
  { weight: 3, arbitrary: numberText },
  { weight: 3, arbitrary: stringText },
  { weight: 2, arbitrary: fc.constantFrom('true', 'false', 'null', '[]', '{}', '[[]]', '{"a":1,"a":2}', '{"F32":null}') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('True', 'nul', 'nullx', 'undefined', '[1,]', '{"a":1,}', '[', '}', '{"a"}', '{a:1}', '/**/1', '1 2', '', '[,1]'),
  },
  { weight: 1, arbitrary: fc.json({ maxDepth: 3 }) },
  { weight: 1, arbitrary: nested },
);
