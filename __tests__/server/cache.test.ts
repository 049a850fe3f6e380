import * as tf from '@tensorflow/tfjs';
import type OpenAI from 'openai';
import type { PruneOptions, VisionLanguageModel } from '../../lib/index';
import { about, dataUri, loadTiny, NAME, QUESTION, type Started, startServer } from './support';

type Message = OpenAI.ChatCompletionMessageParam;

let model: VisionLanguageModel;
let started: Started;
let anew: Started;

beforeAll(async () => {
  model = await loadTiny();
  anew = await startServer(model, { conversations: 0 });
});

beforeEach(async () => {
  started = await startServer(model, { conversations: 3 });
});

afterEach(async () => {
  await started.server.close();
});

afterAll(async () => {
  await anew.server.close();
  model.dispose();
});

/** Asks both servers, expects the same of them, and returns how much the one with caches had of the prompt. */
async function cached(messages: Message[], prune: PruneOptions = { method: 'none' }): Promise<{ cached: number; prompt: number; answer: Message }> {
  const request = { model: NAME, messages, prune } as OpenAI.ChatCompletionCreateParamsNonStreaming;
  const kept = await started.client().chat.completions.create(request);
  const computed = await anew.client().chat.completions.create(request);
  expect(kept.choices).toEqual(computed.choices);
  expect(kept.usage).toMatchObject({ prompt_tokens: computed.usage?.prompt_tokens, completion_tokens: computed.usage?.completion_tokens });
  expect(computed.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
  const { usage } = kept;
  const answer = kept.choices[0]?.message as Message;
  return { cached: usage?.prompt_tokens_details?.cached_tokens ?? 0, prompt: usage?.prompt_tokens ?? 0, answer };
}

const stars = about(dataUri('stars.png'), QUESTION);
const crosses = about(dataUri('crosses.png'), 'what colour is the cross?');

it('two conversations that alternate each go on from their own last turn', async () => {
  const first: Message[] = [stars];
  const second: Message[] = [crosses];
  for (const question of ['is there a red star?', 'what shape is the purple object?']) {
    for (const turns of [first, second]) {
      const before = await cached(turns);
      turns.push(before.answer, { role: 'user', content: question });
    }
    for (const turns of [first, second]) {
      const { cached: had, prompt } = await cached(turns);
      expect(had).toBeGreaterThan(256);
      expect(prompt - had).toBeLessThan(20);
    }
  }
});

it('another question about the same picture has the picture already, and leaves the first conversation as it was', async () => {
  const first = await cached([stars]);
  expect(first.cached).toBe(0);
  const other = await cached([about(dataUri('stars.png'), 'what shape is the purple object?')]);
  expect(other.cached).toBeGreaterThan(256);
  expect((await cached([about(dataUri('letter_a.png'), QUESTION)])).cached).toBeLessThan(10);
  const next = await cached([stars, first.answer, { role: 'user', content: 'is there a red star?' }]);
  expect(next.cached).toBeGreaterThanOrEqual(first.prompt);
});

it('a picture that is pruned otherwise is not taken for the same; a method that reads the question starts anew', async () => {
  const pruned: PruneOptions = { method: 'vispruner', tokens: 28 };
  await cached([stars]);
  expect((await cached([stars], pruned)).cached).toBeLessThan(10);
  expect((await cached([stars], pruned)).cached).toBeGreaterThan(28);
  expect((await cached([stars], { method: 'vispruner', tokens: 28, importantRatio: 1 })).cached).toBeLessThan(10);
  const fastv: PruneOptions = { method: 'fastv', tokens: 64, layer: 1 };
  await cached([stars], fastv);
  expect((await cached([stars], fastv)).cached).toBe(0);
});

it('what is kept has a bound, and a conversation that fails leaves it in order', async () => {
  const fill = async (round: number) => {
    for (const name of ['stars', 'crosses', 'letter_a', 'letter_e'])
      await cached([about(dataUri(`${name}.png`), `${QUESTION} ${round % 2 ? 'red' : 'blue'}`)]);
  };
  await fill(0);
  await fill(1);
  const before = tf.memory().numTensors;
  for (let round = 2; round < 5; round++) {
    await fill(round);
    const failing = started.client().chat.completions.create({ model: NAME, messages: [stars], max_tokens: 2000 });
    await expect(failing).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW' });
    await started
      .client()
      .chat.completions.create({ model: NAME, messages: [stars] }, { signal: AbortSignal.timeout(30) })
      .catch(() => undefined);
  }
  await fill(0);
  await fill(1);
  expect(tf.memory().numTensors).toBe(before);
});
