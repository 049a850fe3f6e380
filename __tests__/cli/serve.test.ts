import { connect } from 'node:net';
import OpenAI from 'openai';
import { about, dataUri, NAME, QUESTION } from '../server/support';
import { type Finished, run, start } from './program';

jest.setTimeout(180_000);

interface Served {
  readonly url: string;
  readonly client: OpenAI;
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly finished: Promise<Finished>;
}

/** The program from source, once it listens. */
async function serve(...flags: string[]): Promise<Served> {
  const { child, finished } = start('serve', '--backend', 'wasm', '--port', '0', '--json', ...flags);
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    void finished.then(({ stderr }) => reject(new Error(stderr)));
  });
  const { url, model } = JSON.parse(line) as { url: string; model: string };
  expect(model).toBe(NAME);
  return { url, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 }), kill: (signal) => child.kill(signal), finished };
}

const slow = {
  model: NAME,
  messages: ['stars', 'crosses', 'letter_a', 'letter_e', 'stars', 'crosses'].map((name) => about(dataUri(`${name}.png`), QUESTION)),
};

async function inFlight(url: string): Promise<void> {
  for (;;) if (/^vispruner_requests_in_flight 1$/m.test(await (await fetch(`${url}/metrics`)).text())) return;
}

it('serves with the pruning of its flags, logs a line a request, and SIGTERM ends it with 0 after the running answer', async () => {
  const { url, client, kill, finished } = await serve('--tokens', '28');
  const answer = await client.chat.completions.create({ model: NAME, messages: [about(dataUri('stars.png'), QUESTION)] });
  expect((answer as unknown as { vispruner: { usage: object } }).vispruner.usage).toMatchObject({ visualTokens: 28, visualTokensBefore: 256 });
  const running = client.chat.completions.create(slow);
  await inFlight(url);
  kill('SIGTERM');
  expect((await running).choices[0]?.message.content).toMatch(/\w/);
  const { code, stdout, stderr } = await finished;
  expect(code).toBe(0);
  expect(stdout.trim().split('\n')).toHaveLength(1);
  const lines = stderr.trim().split('\n');
  expect(
    lines.filter((line) => / POST \/v1\/chat\/completions 200 \d+ms waited=\d+ms prompt=\d+ cached=\d+ visual=\d+\/\d+ new=\d+$/.test(line)),
  ).toHaveLength(2);
});

it('--quiet logs no request; an answer that outlives --grace is cut, with code 1', async () => {
  const { url, client, kill, finished } = await serve('--quiet', '--grace', '0');
  const cut = expect(client.chat.completions.create(slow)).rejects.toMatchObject({ status: 503 });
  await inFlight(url);
  kill('SIGINT');
  await cut;
  const { code, stderr } = await finished;
  expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
});

it('a second signal ends it at once, whoever still holds a connection', async () => {
  const { url, client, kill, finished } = await serve('--quiet');
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => {});
  const lost = client.chat.completions.create({ ...slow, messages: [...slow.messages, ...slow.messages].slice(0, 7) }).catch(() => undefined);
  await inFlight(url);
  kill('SIGTERM');
  await new Promise((resolve) => setTimeout(resolve, 1100));
  kill('SIGTERM');
  expect([0, 143]).toContain((await finished).code); // 0 where the answer was faster than the second signal
  await lost;
  socket.destroy();
});

it('an open server without a key warns; a wrong option or a taken port is said without a model being loaded in vain', async () => {
  const { kill, finished, url } = await serve('--host', '0.0.0.0');
  const taken = await run('serve', '--backend', 'wasm', '--host', '0.0.0.0', '--port', new URL(url).port);
  expect(taken).toMatchObject({ code: 1, stderr: expect.stringMatching(/error \[CANNOT_LISTEN\].*EADDRINUSE/) });
  kill('SIGTERM');
  expect((await finished).stderr).toMatch(/^warning: whoever reaches 0\.0\.0\.0 can use this server/);
  expect(await run('serve', '--port', '70000')).toMatchObject({ code: 2, stderr: expect.stringMatching(/--port.*65535/) });
  expect(await run('serve', '--tokens', '0')).toMatchObject({ code: 2, stderr: expect.stringMatching(/TOKENS_INVALID/) });
  expect(await run('serve', '--max-body', 'lots')).toMatchObject({ code: 2, stderr: expect.stringMatching(/"lots" is no size/) });
});
