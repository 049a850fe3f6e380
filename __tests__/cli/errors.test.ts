import { run } from './program';

jest.setTimeout(180_000);

const FIXTURE = '__tests__/fixtures/gqa';

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
])('what cannot be done ends with code 1: %s', async (_, args, message) => {
  const { code, stderr } = await failure(...args);
  expect(stderr).toMatch(message);
  expect(code).toBe(1);
});

it('help and version are results: on stdout, code 0', async () => {
  const { code, stdout, stderr } = await run('--help');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const command of ['ask', 'select', 'inspect', 'flops', 'doctor', 'convert']) expect(stdout).toMatch(new RegExp(`^ +${command} `, 'm'));
});
