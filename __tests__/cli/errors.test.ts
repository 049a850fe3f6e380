import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, runWith } from './program';

jest.setTimeout(180_000);

const FIXTURE = '__tests__/fixtures/gqa';
const STARS = 'examples/images/stars.png';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vispruner-errors-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Whatever fails prints one message and nothing on stdout. */
async function failure(...args: string[]): Promise<{ code: number | null; stderr: string }> {
  const { code, stdout, stderr } = await run(...args);
  expect(stdout).toBe('');
  expect(stderr).not.toMatch(/^ +at /m); // no stack
  return { code, stderr };
}

it.each([
  ['an unknown option', ['flops', '--fast'], /unknown option '--fast'/],
  ['an unknown command', ['aks', 'photo.jpg', 'What?'], /unknown command 'aks'/],
  ['no question', ['ask', 'photo.jpg'], /\[QUESTION_MISSING\].*photo\.jpg/],
  ['a budget that is no number', ['ask', '--tokens', 'many', 'photo.jpg', 'What is it?'], /--tokens.*many/],
  ['a budget of zero', ['ask', '--tokens', '0', 'photo.jpg', 'What is it?'], /\[TOKENS_INVALID\]/],
  ['an unknown method', ['select', '--prune', 'best', '--tokens', '4', 'photo.jpg'], /\[METHOD_UNKNOWN\].*vispruner/],
  ['a temperature below zero', ['ask', '--temperature', '-1', 'photo.jpg', 'What is it?'], /\[BAD_SAMPLING\]/],
  ['an unknown backend', ['ask', '--backend', 'quantum', 'photo.jpg', 'What is it?'], /--backend.*quantum.*wasm/s],
  ['more tokens than patches', ['flops', '--tokens', '577'], /\[TOKENS_EXCEED_PATCHES\].*577.*576/],
  ['an answer of no tokens', ['ask', '--max-new-tokens', '0', STARS, 'What is it?'], /--max-new-tokens.*0/],
  ['an empty stop string', ['ask', '--stop', '', STARS, 'what is it?'], /\[BAD_STOP\]/],
  ['a picture that is no PNG', ['ask', '--tokens', '8', '--overlay', 'kept.jpg', STARS, 'what is it?'], /\[OVERLAY_NAME\].*kept\.jpg/],
  ['an unknown layout', ['convert', FIXTURE, 'no-such-target', '--layout', 'newest'], /\[UNKNOWN_LAYOUT\].*"newest"/],
  ['an unknown precision', ['convert', FIXTURE, 'no-such-target', '--dtype', 'int4'], /\[BAD_OPTION\].*"int4".*bfloat16/],
  ['a conversion into its own source', ['convert', FIXTURE, FIXTURE], /\[SAME_DIRECTORY\]/],
  // What only the loaded model can judge is wrong use all the same.
  ['more tokens than the model has patches', ['select', '--tokens', '257', STARS], /\[TOKENS_EXCEED_PATCHES\].*257.*256/],
  ['an answer longer than the context', ['ask', '--max-new-tokens', '5000', STARS, 'what is it?'], /\[CONTEXT_OVERFLOW\].*5000 more.*2048/],
  ['a special token in the question', ['ask', STARS, 'what is </s>?'], /\[SPECIAL_TOKEN_IN_TEXT\].*<\/s>/],
  ['a place for an image that is not given', ['ask', 'what is in <image>?'], /\[IMAGE_TOKEN_COUNT\].*1 place.*0 image/],
])('wrong use ends with code 2: %s', async (_, args, message) => {
  const { code, stderr } = await failure(...args);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});

it.each([
  ['a directory that is not there', ['inspect', 'no/such/model'], /^error \[FILE_NOT_FOUND\]: no\/such\/model/],
  ['a model that is not there', ['ask', '--model', 'no/such/model', 'What is it?'], /^error \[FILE_NOT_FOUND\]: no\/such\/model/],
  [
    'an image that is not there',
    ['select', '--model', FIXTURE, '--backend', 'wasm', '--tokens', '4', 'no-such.png'],
    /^error \[IMAGE_NOT_FOUND\]: no-such\.png/,
  ],
  ['a target that exists', ['convert', FIXTURE, '__tests__/fixtures'], /^error \[TARGET_EXISTS\]/],
  ['an image of another format', ['select', '--tokens', '4', 'README.md'], /^error \[IMAGE_FORMAT\]: README\.md/],
  ['a model without checksums', ['inspect', FIXTURE, '--verify'], /^error \[NO_CHECKSUMS\].*gqa/],
  ['a model that can only be asked by ids', ['ask', '--model', FIXTURE, '--backend', 'wasm', 'what is it?'], /^error \[NO_TOKENIZER\]/],
])('what cannot be done ends with code 1: %s', async (_, args, message) => {
  const { code, stderr } = await failure(...args);
  expect(stderr).toMatch(message);
  expect(code).toBe(1);
});

it('a damaged model: what is wrong is told, with code 1', async () => {
  const model = join(folder, 'damaged');
  await cp('weights/vispruner-tiny', model, { recursive: true });
  const weights = await readFile(join(model, 'model.safetensors'));
  weights.writeUInt16LE(0x7e00, weights.length - 2); // NaN
  await writeFile(join(model, 'model.safetensors'), weights);
  const verified = await failure('inspect', model, '--verify');
  expect([verified.code, verified.stderr]).toEqual([
    1,
    expect.stringMatching(/^error \[CHECKSUM_MISMATCH\]: .*model\.safetensors has [0-9a-f]{64} /),
  ]);
  const scanned = await failure('inspect', model, '--check-finite');
  expect([scanned.code, scanned.stderr]).toEqual([1, expect.stringMatching(/^error \[NOT_FINITE\]: .*damaged: element \d+ of ".*" is NaN/)]);
});

it('a warning goes to stderr, and the command goes on', async () => {
  const model = join(folder, 'odd');
  await cp('__tests__/fixtures/layouts/sharded', model, { recursive: true });
  const index = join(model, 'model.safetensors.index.json');
  await writeFile(index, (await readFile(index, 'utf8')).replace('"total_size": 31920', '"total_size": 7'));
  const { code, stdout, stderr } = await run('convert', model, join(folder, 'even'), '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringMatching(/^warning: .*total_size says 7 bytes, the shards hold 31920\.\n$/) });
  expect(JSON.parse(stdout)).toMatchObject({ tensors: expect.any(Number) });
});

describe('an error that nobody foresaw', () => {
  /** Breaks the program from outside: `broken` is run before it. */
  const breaking = async (broken: string, env: Record<string, string> = {}) => {
    const preload = join(folder, 'break.js');
    await writeFile(preload, broken);
    return runWith({ NODE_OPTIONS: `--require ${preload}`, ...env }, 'inspect', FIXTURE);
  };
  const inReport = "Number.prototype.toFixed = () => { throw new TypeError('numbers are out\\nof order'); };";

  it('is one line with a hint, code 1', async () => {
    const { code, stdout, stderr } = await breaking(inReport);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^error: TypeError: numbers are out\. This was not foreseen: please report it .* VISPRUNER_DEBUG=1 .*\.\n$/);
  });

  it('shows its stack where that is asked for', async () => {
    const { code, stderr } = await breaking(inReport, { VISPRUNER_DEBUG: '1' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^ +at .*output\.ts/m);
  });

  it('is the same where nothing waited for it', async () => {
    const lost = "Number.prototype.toFixed = () => { void Promise.reject(new Error('lost')); return '0'; };";
    const { code, stderr } = await breaking(lost);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: Error: lost\. This was not foreseen/);
  });
});

it('help and version are results: on stdout, code 0', async () => {
  const { code, stdout, stderr } = await run('--help');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const command of ['ask', 'select', 'inspect', 'flops', 'doctor', 'convert']) expect(stdout).toMatch(new RegExp(`^ +${command} `, 'm'));
});
