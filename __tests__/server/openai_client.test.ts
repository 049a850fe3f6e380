import * as tf from '@tensorflow/tfjs';
import OpenAI from 'openai';
import type { KeptPatches, VisionLanguageModel } from '../../lib/index';
import { about, dataUri, imageFile, loadTiny, metric, NAME, QUESTION, type Started, startServer, until } from './support';

type Ours = { readonly vispruner: { visual: (Omit<KeptPatches, 'kept'> & { kept: number[] })[]; usage: { enteringTokens: number[] } } };

const PRUNE = { method: 'vispruner', tokens: 28 } as const;
const stars = dataUri('stars.png');
/** Takes a second or so: seven images in one prompt. */
const slow = {
  model: NAME,
  messages: ['stars', 'crosses', 'letter_a', 'letter_e', 'stars', 'crosses', 'letter_a'].map((name) => about(dataUri(`${name}.png`), QUESTION)),
};
const asked = { model: NAME, messages: [about(stars, QUESTION)] };

let model: VisionLanguageModel;
let started: Started;
let client: OpenAI;

beforeAll(async () => {
  model = await loadTiny();
  started = await startServer(model);
  client = started.client();
});

afterAll(async () => {
  await started.server.close();
  model.dispose();
});

it('answers as the model does, and says what was kept, also when pruned by default', async () => {
  const direct = await model.ask(imageFile('stars.png'), QUESTION, { prune: PRUNE });
  const { data, response } = await client.chat.completions
    .create({ ...asked, prune: PRUNE } as OpenAI.ChatCompletionCreateParamsNonStreaming)
    .withResponse();
  expect(data).toMatchObject({
    object: 'chat.completion',
    model: NAME,
    choices: [{ index: 0, message: { role: 'assistant', content: direct.text }, finish_reason: 'stop' }],
    usage: {
      prompt_tokens: direct.usage.promptTokens,
      completion_tokens: direct.usage.newTokens,
      total_tokens: direct.usage.promptTokens + direct.usage.newTokens,
      prompt_tokens_details: { cached_tokens: 0 },
    },
  });
  const { visual, usage } = (data as unknown as Ours).vispruner;
  expect(visual).toEqual(direct.visual.map((crop) => ({ ...crop, kept: Array.from(crop.kept) })));
  expect(usage.enteringTokens).toEqual([28, 28, 28, 28]);
  expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);

  const other = await startServer(model, { prune: PRUNE });
  try {
    const byDefault = await other.client().chat.completions.create(asked);
    expect((byDefault as unknown as Ours).vispruner.visual[0]?.kept).toEqual(visual[0]?.kept);
    const unpruned = { ...asked, prune: { method: 'none' } } as OpenAI.ChatCompletionCreateParamsNonStreaming;
    expect((await other.client().chat.completions.create(unpruned)).usage?.prompt_tokens).toBe(direct.usage.promptTokens + 256 - 28);
  } finally {
    await other.server.close();
  }
});

it('streams what it answers whole: role, pieces, finish_reason with our member, usage', async () => {
  const whole = await client.chat.completions.create(asked);
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
  expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '', refusal: null });
  expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(whole.choices[0]?.message.content);
  const finished = chunks.filter(({ choices }) => choices[0]?.finish_reason === 'stop');
  expect(finished).toHaveLength(1);
  expect((finished[0] as unknown as Ours).vispruner.visual).toHaveLength(1);
  expect(chunks.at(-1)).toMatchObject({
    choices: [],
    usage: { prompt_tokens: whole.usage?.prompt_tokens, completion_tokens: whole.usage?.completion_tokens },
  });
  expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
});

it('the next turn of a conversation goes on from the one before, and is answered as the whole conversation', async () => {
  const turns: OpenAI.ChatCompletionMessageParam[] = [about(dataUri('crosses.png'), 'what colour is the cross?')];
  const first = await client.chat.completions.create({ model: NAME, messages: turns });
  turns.push(first.choices[0]?.message as OpenAI.ChatCompletionMessageParam, { role: 'user', content: 'is there a red star?' });
  const second = await client.chat.completions.create({ model: NAME, messages: turns });
  expect(second.usage?.prompt_tokens_details?.cached_tokens).toBeGreaterThanOrEqual(first.usage?.prompt_tokens as number);
  const anew = await startServer(model, { conversations: 0 });
  try {
    const uncached = await anew.client().chat.completions.create({ model: NAME, messages: turns });
    expect(uncached.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    expect(second.choices[0]?.message).toEqual(uncached.choices[0]?.message);
    expect(second.usage?.prompt_tokens).toBe(uncached.usage?.prompt_tokens);
  } finally {
    await anew.server.close();
  }
});

it('several images, a language question, max_tokens and stop are taken', async () => {
  const two = await client.chat.completions.create({
    model: NAME,
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image_url', image_url: { url: stars, detail: 'high' } },
          { type: 'image_url', image_url: { url: dataUri('crosses.png') } },
          { type: 'text', text: QUESTION },
        ],
      },
    ],
  });
  expect((two as unknown as Ours).vispruner.visual.map(({ image }) => image)).toEqual([0, 1]);
  const short = await client.chat.completions.create({ model: NAME, messages: [{ role: 'user', content: 'is there a red star?' }], max_tokens: 1 });
  expect(short.usage?.completion_tokens).toBeLessThanOrEqual(1);
  const answer = (await client.chat.completions.create(asked)).choices[0]?.message.content as string;
  const cut = await client.chat.completions.create({ ...asked, stop: [answer.slice(2)] });
  expect(cut.choices[0]).toMatchObject({ message: { content: answer.slice(0, 2) }, finish_reason: 'stop' });
});

it('logit_bias forces and bans tokens, and penalties are taken', async () => {
  const { ids, text } = await model.ask(imageFile('stars.png'), QUESTION);
  const banned = await client.chat.completions.create({ ...asked, logit_bias: { [ids[0] as number]: -100 } });
  expect(banned.choices[0]?.message.content).not.toBe(text);
  const [other] = (await model.ask(imageFile('letter_a.png'), 'which letter is shown?')).ids;
  const forced = await client.chat.completions.create({ ...asked, logit_bias: { [other as number]: 100 }, max_tokens: 3, frequency_penalty: 0 });
  expect(forced.choices[0]).toMatchObject({ message: { content: expect.stringMatching(/^(\S+) \1 \1$/) }, finish_reason: 'length' });
  const varied = await client.chat.completions.create({ ...asked, logit_bias: { [other as number]: 20 }, max_tokens: 3, presence_penalty: 2 });
  expect(varied.usage?.completion_tokens).toBeGreaterThan(0);
  const unknown = client.chat.completions.create({ ...asked, logit_bias: { 99999: 1 } });
  await expect(unknown).rejects.toMatchObject({ status: 400, code: 'BAD_SAMPLING' });
});

it("logprobs are the model's own, whole and in a stream", async () => {
  const direct = await model.ask(imageFile('stars.png'), QUESTION, { logprobs: 3 });
  const request = { ...asked, logprobs: true, top_logprobs: 3 };
  const own = (await client.chat.completions.create(request)).choices[0]?.logprobs?.content ?? [];
  expect(own.map(({ token }) => token).join('')).toBe(direct.text);
  for (const [i, token] of own.entries()) {
    const expected = direct.logprobs?.[i];
    expect(token).toMatchObject({ token: expected?.token, bytes: expected?.bytes, logprob: expect.closeTo(expected?.logprob as number, 3) });
    expect(token.top_logprobs.map((one) => one.token)).toEqual(expected?.top.map((one) => one.token));
  }
  const streamed: typeof own = [];
  for await (const chunk of await client.chat.completions.create({ ...request, stream: true }))
    streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
  expect(streamed.map(({ token }) => token)).toEqual(own.map(({ token }) => token));
  expect((await client.chat.completions.create(asked)).choices[0]?.logprobs).toBeNull();
});

it('choices: the likeliest of some texts, with what all of them have', async () => {
  const choices = ['top-left', 'top-right', 'bottom-left', 'bottom-right'];
  const direct = await model.ask(imageFile('stars.png'), QUESTION, { choices });
  const request = { ...asked, choices } as OpenAI.ChatCompletionCreateParamsNonStreaming;
  const reply = (await client.chat.completions.create(request)) as OpenAI.ChatCompletion & {
    vispruner: { choices: { text: string; probability: number }[] };
  };
  expect(reply.choices[0]).toMatchObject({ message: { content: direct.text }, finish_reason: 'stop' });
  expect(reply.vispruner.choices.map(({ text }) => text)).toEqual(direct.choices?.map(({ text }) => text));
  expect(reply.vispruner.choices.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 6);
  const streamed: string[] = [];
  const stream = await client.chat.completions.create({ ...request, stream: true } as OpenAI.ChatCompletionCreateParamsStreaming);
  for await (const chunk of stream) streamed.push(chunk.choices[0]?.delta.content ?? '');
  expect(streamed.join('')).toBe(direct.text);
  const contradiction = client.chat.completions.create({ ...request, temperature: 1 });
  await expect(contradiction).rejects.toMatchObject({ status: 400, code: 'OPTION_CONFLICT' });
});

it('lists and retrieves its model', async () => {
  const { data } = await client.models.list();
  expect(data).toMatchObject([{ id: NAME, object: 'model', owned_by: 'vispruner' }]);
  expect(await client.models.retrieve(NAME)).toMatchObject({ id: NAME });
  await expect(client.models.retrieve('gpt-5')).rejects.toMatchObject({ status: 404, code: 'MODEL_UNKNOWN' });
});

const wrong: [string, object, number, string, string | null][] = [
  ['another model', { model: 'gpt-5' }, 404, 'MODEL_UNKNOWN', 'model'],
  ['an unknown field', { colour: 'red' }, 400, 'FIELD_UNKNOWN', 'colour'],
  ['two answers', { n: 2 }, 400, 'FIELD_INVALID', 'n'],
  ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }, 400, 'FIELD_INVALID', 'tools'],
  ['no messages', { messages: [] }, 400, 'FIELD_INVALID', 'messages'],
  ['a role that is not known', { messages: [{ role: 'tool', content: 'x', tool_call_id: '1' }] }, 400, 'FIELD_INVALID', 'messages[0].role'],
  ['a temperature below zero', { temperature: -1 }, 400, 'BAD_SAMPLING', null],
  ['no tokens', { max_tokens: 0 }, 400, 'FIELD_INVALID', 'max_tokens'],
  ['more tokens than the context has', { max_tokens: 5000 }, 400, 'CONTEXT_OVERFLOW', null],
  ['an unknown pruning method', { prune: { method: 'best', tokens: 3 } }, 400, 'METHOD_UNKNOWN', 'prune'],
  ['a pruning option of another method', { prune: { method: 'random', tokens: 3, layer: 2 } }, 400, 'METHOD_OPTION_UNKNOWN', 'prune'],
  ['more tokens kept than there are', { prune: { tokens: 1000 } }, 400, 'TOKENS_EXCEED_PATCHES', 'prune'],
  ['an object that poses as a pruner', { prune: { method: 'none', begin: 1 } }, 400, 'FIELD_INVALID', 'prune'],
  ['an image that is none', { messages: [about('data:image/png;base64,aGVsbG8=', 'what?')] }, 400, 'IMAGE_FORMAT', 'messages'],
  ['a cut image', { messages: [about(stars.slice(0, 4000), 'what?')] }, 400, 'IMAGE_TRUNCATED', 'messages'],
  ['a data URI without base64', { messages: [about('data:image/png,abc', 'what?')] }, 400, 'DATA_URI_INVALID', 'messages'],
  ['an address, where none is fetched', { messages: [about('https://example.com/cat.png', 'what?')] }, 400, 'IMAGE_URL_REFUSED', 'messages'],
  ['a path of the server', { messages: [about('file:///etc/passwd', 'what?')] }, 400, 'IMAGE_URL_REFUSED', 'messages'],
  ['a special token in the text', { messages: [{ role: 'user', content: 'a </s> b' }] }, 400, 'SPECIAL_TOKEN_IN_TEXT', null],
  ['an image token without an image', { messages: [{ role: 'user', content: '<image> what?' }] }, 400, 'IMAGE_TOKEN_COUNT', null],
  ['a text that no context holds', { messages: [{ role: 'user', content: 'red '.repeat(20_000) }] }, 400, 'PROMPT_TOO_LONG', 'messages'],
];

it.each(wrong)('%s: the client gets its own class of error with our code', async (_, change, status, code, param) => {
  for (const stream of [false, true]) {
    const error = await client.chat.completions
      .create({ ...asked, ...change, stream } as OpenAI.ChatCompletionCreateParamsNonStreaming)
      .then(() => undefined)
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(status === 404 ? OpenAI.NotFoundError : OpenAI.BadRequestError);
    expect(error).toMatchObject({ status, code, param, type: 'invalid_request_error', message: expect.stringMatching(/\w{3}/) });
  }
});

it('a client that goes away, while its answer is written or while it waits, frees its place and leaves no tensor', async () => {
  const anew = await startServer(model, { conversations: 0 });
  try {
    await anew.client().chat.completions.create(asked);
    const before = tf.memory().numTensors;
    const controllers = Array.from({ length: 3 }, () => new AbortController());
    const calls = controllers.map(({ signal }) => anew.client().chat.completions.create(slow, { signal }));
    const last = anew.client().chat.completions.create(asked);
    await until(async () => (await metric(anew.at, 'vispruner_queue_length')) === 3);
    for (const controller of controllers) controller.abort();
    for (const call of calls) await expect(call).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    expect((await last).choices[0]?.message.content).toBe((await client.chat.completions.create(asked)).choices[0]?.message.content);
    await until(async () => (await metric(anew.at, 'vispruner_requests_in_flight')) === 0);
    expect(anew.lines.filter((line) => line.includes(' 499 '))).toHaveLength(3);
    expect(await metric(anew.at, 'vispruner_requests_total{path="/v1/chat/completions",outcome="aborted"}')).toBe(3);
    expect(tf.memory().numTensors).toBe(before);
  } finally {
    await anew.server.close();
  }
});

it('a stream that is left early stops the model', async () => {
  const stream = await client.chat.completions.create({ ...asked, stream: true });
  for await (const _ of stream) break;
  await until(async () => (await metric(started.at, 'vispruner_requests_in_flight')) === 0);
  expect((await client.chat.completions.create(asked)).choices).toHaveLength(1);
});

it('past the bound of the queue it says 429 and when to come again, and the client that comes again is answered', async () => {
  const narrow = await startServer(model, { queue: 0, conversations: 0 });
  try {
    const answered = narrow.client().chat.completions.create(slow);
    await until(async () => (await metric(narrow.at, 'vispruner_requests_in_flight')) === 1);
    const error: unknown = await narrow
      .client()
      .chat.completions.create(asked)
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    expect(error).toMatchObject({ status: 429, code: 'QUEUE_FULL' });
    expect(Number((error as InstanceType<typeof OpenAI.RateLimitError>).headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    await answered;
    const both = await Promise.all([0, 1].map(() => narrow.client({ maxRetries: 5 }).chat.completions.create(asked)));
    expect(new Set(both.map(({ choices }) => choices[0]?.message.content)).size).toBe(1);
    expect(narrow.lines.some((line) => line.includes(' 429 ') && line.includes('QUEUE_FULL'))).toBe(true);
  } finally {
    await narrow.server.close();
  }
});

it('with a key, requests need it, but for /healthz', async () => {
  const guarded = await startServer(model, { apiKey: 'open sesame'.replace(' ', '-') });
  try {
    for (const apiKey of ['none', 'open-sesam', 'open-sesame-']) {
      const error: unknown = await guarded
        .client({ apiKey })
        .models.list()
        .catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(OpenAI.AuthenticationError);
      expect(error).toMatchObject({ status: 401, code: 'API_KEY_WRONG', type: 'authentication_error' });
    }
    expect((await guarded.client({ apiKey: 'open-sesame' }).models.list()).data).toHaveLength(1);
    expect((await fetch(`${guarded.at.url}/metrics`)).status).toBe(401);
    expect((await fetch(`${guarded.at.url}/healthz`)).status).toBe(200);
  } finally {
    await guarded.server.close();
  }
});

it('the tensors of all of this are freed with the server', async () => {
  const before = tf.memory().numTensors;
  const own = await startServer(model);
  await own.client().chat.completions.create(asked);
  await own.client().chat.completions.create({ ...asked, messages: [about(dataUri('crosses.png'), QUESTION)] });
  expect(tf.memory().numTensors).toBeGreaterThan(before);
  expect(await own.server.close()).toBe(true);
  expect(tf.memory().numTensors).toBe(before);
});
