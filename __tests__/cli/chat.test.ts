import { run, startWithInput } from './program';

jest.setTimeout(180_000);

const IMAGE = 'examples/images/stars.png';
const OTHER = 'examples/images/letter_a.png';
const WHERE = 'where is the yellow object?';
const SHAPE = 'what shape is the yellow object?';
const RELATION = 'is the purple object above or below the letter?';

const chat = (input: string, ...args: string[]) => startWithInput(input, 'ask', '--chat', '--backend', 'wasm', ...args).finished;

it('a chat answers each line, the first question before what is piped in, and takes an image later on', async () => {
  const { code, stdout, stderr } = await chat(`${SHAPE}\n\n/image ${OTHER}\n${RELATION}\n/exit\nnever asked\n`, '--tokens', '28', IMAGE, WHERE);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const alone = await run('ask', '--backend', 'wasm', '--tokens', '28', IMAGE, WHERE);
  const lines = stdout.split('\n');
  expect(lines).toHaveLength(4);
  expect(`${lines[0]}\n`).toBe(alone.stdout);
});

it('with --json each answer is a line of JSON that tells what came from the cache', async () => {
  const { code, stdout, stderr } = await chat(`${WHERE}\n${SHAPE}`, '--json', '--tokens', '28', IMAGE);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { question: string; images: string[]; usage: { cachedTokens: number; promptTokens: number } });
  expect(answers).toMatchObject([
    { question: WHERE, images: [IMAGE], usage: { visualTokens: 28, cachedTokens: 0 } },
    { question: SHAPE, images: [], usage: { visualTokens: 28 } },
  ]);
  expect(answers[1]?.usage.cachedTokens).toBeGreaterThan(answers[0]?.usage.promptTokens ?? Number.NaN); // all of the first turn and its answer
});

it('of piped questions the first that fails ends the chat, with its own exit code', async () => {
  const { code, stdout, stderr } = await chat(`/image no-such.png\n${WHERE}\n${SHAPE}\n`);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^error \[IMAGE_NOT_FOUND\]: no-such\.png/);
});

it('a picture of one answer is refused in a chat', async () => {
  const { code, stderr } = await chat('', '--overlay', 'kept.png', IMAGE);
  expect(code).toBe(2);
  expect(stderr).toMatch(/\[CHAT_OVERLAY\]/);
});
