import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import type OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { loadModel, memoryDirectory, type VisionLanguageModel } from '../../lib/index';
import { encodeSafetensors } from '../../weights/safetensors_write';
import { LANGUAGE_CONFIG, seededWeights } from '../support/memory_model';
import { NAME, ROOT, type Started, startServer } from './support';

const TOKENIZER = path.join(ROOT, '__tests__/fixtures/tokenizers/llama');
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'where is the red star?' }];

let model: VisionLanguageModel;
let started: Started;

/** A language model of seeded weights whose tokens are bytes and their merges: left to itself, it writes nonsense. */
beforeAll(async () => {
  const config = { ...LANGUAGE_CONFIG, vocab_size: 652, bos_token_id: 1, eos_token_id: 2, pad_token_id: 651, max_position_embeddings: 512 };
  const files: Record<string, Uint8Array> = {
    'config.json': Buffer.from(JSON.stringify(config)),
    'model.safetensors': await encodeSafetensors(seededWeights(config)),
  };
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']) files[name] = readFileSync(path.join(TOKENIZER, name));
  model = await loadModel(memoryDirectory(new Map(Object.entries(files))), { backend: 'wasm' });
  started = await startServer(model);
});

afterAll(async () => {
  await started.server.close();
  model.dispose();
});

const Place = z.object({
  colour: z.enum(['red', 'blue']),
  objects: z
    .array(z.enum(['star', 'cross']))
    .min(1)
    .max(3),
  sure: z.boolean(),
});

it("an answer keeps to the schema that zod and OpenAI's client make", async () => {
  const request = { model: NAME, messages, max_tokens: 200, temperature: 1, response_format: zodResponseFormat(Place, 'place') };
  for (const seed of [1, 2, 3]) {
    const { choices } = await started.client().chat.completions.parse({ ...request, seed });
    expect(choices[0]?.finish_reason).toBe('stop');
    expect(Place.parse(choices[0]?.message.parsed)).toEqual(JSON.parse(choices[0]?.message.content ?? ''));
  }
  let streamed = '';
  for await (const chunk of await started.client().chat.completions.create({ ...request, seed: 1, stream: true }))
    streamed += chunk.choices[0]?.delta.content ?? '';
  expect(Place.safeParse(JSON.parse(streamed)).success).toBe(true);
});

it('a JSON object without a schema is one as far as it comes', async () => {
  const request = { model: NAME, messages, max_tokens: 20, response_format: { type: 'json_object' } } as const;
  expect((await started.client().chat.completions.create(request)).choices[0]?.message.content).toMatch(/^\s*\{/);
});

const nested = (depth: number): object => (depth === 0 ? { type: 'string' } : { type: 'array', items: nested(depth - 1) });

it.each([
  ['no schema', { type: 'nothing' }],
  ['a word that nothing can hold an answer to', { type: 'object', patternProperties: {} }],
  ['a schema nested without end', nested(500)],
  ['a schema of many parts', { enum: Array.from({ length: 5000 }, (_, i) => String(i)) }],
])('%s is refused, and soon', async (_, schema) => {
  const begun = performance.now();
  const response_format = { type: 'json_schema', json_schema: { name: 'it', schema } } as OpenAI.ResponseFormatJSONSchema;
  await expect(started.client().chat.completions.create({ model: NAME, messages, response_format })).rejects.toMatchObject({ status: 400 });
  expect(performance.now() - begun).toBeLessThan(3000);
});

it.each([
  ['a text of a million characters at least', { type: 'string', minLength: 1_000_000 }],
  ['an array of a million items at least', { type: 'array', items: { type: 'string' }, minItems: 1_000_000 }],
  ['a pattern of repeated repetitions', { type: 'string', pattern: '^(a{1,1000}){1,1000}$' }],
  ['a pattern that backtracks', { type: 'string', pattern: '^(a|a)*(a|a)*(a|aa)*b$' }],
])('%s does not hold the server up', async (_, schema) => {
  const begun = performance.now();
  const response_format = { type: 'json_schema', json_schema: { name: 'it', schema } } as OpenAI.ResponseFormatJSONSchema;
  const asking = started.client().chat.completions.create({ model: NAME, messages, response_format, max_tokens: 10 });
  const status = await asking.then(
    () => 200,
    (error: { status: number }) => error.status,
  );
  expect([200, 400]).toContain(status);
  expect(performance.now() - begun).toBeLessThan(5000);
});
