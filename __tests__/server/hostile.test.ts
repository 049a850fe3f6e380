import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import type { VisionLanguageModel } from '../../lib/index';
import { createServer, type ModelServer } from '../../lib/server';
import { loadTiny, NAME } from './support';

const RUNS = 300;
const right = { model: NAME, messages: [{ role: 'user', content: 'is there a red star?' }], max_tokens: 2 };

const FIELDS = [
  ...[
    'model',
    'messages',
    'max_tokens',
    'max_completion_tokens',
    'temperature',
    'top_p',
    'seed',
    'stop',
    'stream',
    'stream_options',
    'prune',
    'n',
    'user',
  ],
  ...[
    'logprobs',
    'top_logprobs',
    'logit_bias',
    'response_format',
    'tools',
    'frequency_penalty',
    'presence_penalty',
    'metadata',
    '__proto__',
    'constructor',
  ],
];

let model: VisionLanguageModel;
let server: ModelServer;
let faults: string[];

beforeAll(async () => {
  model = await loadTiny();
  server = createServer(model, { name: NAME, conversations: 0, log: (line) => faults.push(line) });
});

beforeEach(() => {
  faults = [];
});

afterAll(async () => {
  await server.close();
  model.dispose();
});

async function ask(body: string | Uint8Array): Promise<number> {
  const response = await server.fetch(
    new Request('http://localhost/v1/chat/completions', { method: 'POST', headers: { 'content-type': 'application/json' }, body: body as BodyInit }),
  );
  const text = await response.text();
  if (response.status >= 400)
    expect(JSON.parse(text)).toMatchObject({ error: { message: expect.any(String), code: expect.stringMatching(/^[A-Z_]+$/) } });
  return response.status;
}

/** Whatever comes is answered or refused, and never makes the server fail. */
async function never500(bodies: fc.Arbitrary<string | Uint8Array>): Promise<Set<number>> {
  const statuses = new Set<number>();
  const before = tf.memory().numTensors;
  await fc.assert(
    fc.asyncProperty(bodies, async (body) => {
      const status = await ask(body);
      statuses.add(status);
      expect(status).toBeLessThan(500);
    }),
    { numRuns: RUNS, seed: 7 },
  );
  expect(tf.memory().numTensors).toBe(before);
  return statuses;
}

it('any value in any field', async () => {
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom<unknown>(null, true, 0, 1, -1, 2 ** 53, 1e308, '', 'text', [], {}, [null], 'json_schema'));
  const statuses = await never500(fc.tuple(fc.constantFrom(...FIELDS), value).map(([field, given]) => changed(JSON.stringify(right), field, given)));
  expect(statuses).toContain(200);
  expect(statuses).toContain(400);
});

it('any content in a message, and any pruning', async () => {
  const part = fc.oneof(
    fc.record({ type: fc.constant('text'), text: fc.string({ unit: 'binary' }) }),
    fc.record({
      type: fc.constant('image_url'),
      image_url: fc.record({
        url: fc.oneof(
          fc.webUrl(),
          fc.base64String().map((data) => `data:image/png;base64,${data}`),
        ),
      }),
    }),
    fc.jsonValue(),
  );
  const message = fc.record({
    role: fc.constantFrom('user', 'system', 'assistant', 'developer', 'tool'),
    content: fc.oneof(fc.string(), fc.array(part)),
  });
  const prune = fc.record(
    {
      method: fc.constantFrom('vispruner', 'random', 'fastv', 'none', 'begin', '__proto__'),
      tokens: fc.oneof(fc.integer(), fc.double()),
      keepRatio: fc.double(),
    },
    { requiredKeys: [] },
  );
  await never500(
    fc
      .record({ messages: fc.array(message, { maxLength: 4 }), prune }, { requiredKeys: ['messages'] })
      .map((change) => JSON.stringify({ ...right, ...change })),
  );
});

it('a right body with any bytes changed', async () => {
  const bytes = Buffer.from(JSON.stringify(right));
  const change = fc.record({ at: fc.nat(bytes.length), remove: fc.nat(8), insert: fc.uint8Array({ maxLength: 4 }) });
  await never500(change.map(({ at, remove, insert }) => Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)])));
});

it('requests before and after are not changed by it', async () => {
  expect(await ask(JSON.stringify(right))).toBe(200);
  expect(faults.filter((line) => / 50\d /.test(line))).toEqual([]);
});

/** The body with a field more, written as text: "__proto__" is a key as any other there. */
function changed(body: string, field: string, value: unknown): string {
  const { [field as keyof typeof right]: _, ...rest } = JSON.parse(body) as typeof right;
  return `{${JSON.stringify(field)}:${JSON.stringify(value)},${JSON.stringify(rest).slice(1)}`;
}
