import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  type AskOptions,
  type ChatMessage,
  ConcatKeyValueCache,
  type GenerateOptions,
  loadModel,
  PromptCache,
  readCheckpoint,
  readSafetensors,
  type Tap,
  type VisionLanguageModel,
} from '../../lib/index';
import { type Refusal, refuses, SHIPPED, useFolder, useShippedModel, works } from './refusal';

const STARS = join(__dirname, '../../examples/images/stars.png');
const QUESTION = 'where is the yellow object?';

let model: VisionLanguageModel;

useFolder();
useShippedModel((loaded) => {
  model = loaded;
});

function prompt(kind: Refusal['kind'], what: string, act: () => Promise<unknown>, code: Refusal['code'], ...tells: (string | RegExp)[]): Refusal {
  return { kind, what, act, name: 'PromptError', code, tells };
}

/** An option as JavaScript lets it be written, whatever its type says. */
function asking(options: object): () => Promise<unknown> {
  return () => model.ask(STARS, QUESTION, options as AskOptions);
}

function disposed(what: string, act: () => Promise<unknown>, ...tells: (string | RegExp)[]): Refusal {
  return { kind: 50, what: `${what}, disposed before,`, act, name: 'StateError', code: 'DISPOSED', tells };
}

/** One image token, and text around it, as ids. */
async function generating(imageTokens: number, images: number): Promise<unknown> {
  const imageToken = model.chatProcessor.imageToken?.id as number;
  const prepared = await model.prepareImages(new Array(images).fill(STARS));
  const inputIds = [2, ...new Array<number>(imageTokens).fill(imageToken), 10, 11];
  return model.generate({ inputIds, images: prepared }).finally(() => tf.dispose(prepared.map(({ pixelValues }) => pixelValues)));
}

refuses([
  prompt(47, 'two for one image', () => model.ask(STARS, '<image> and <image>?'), 'IMAGE_TOKEN_COUNT', '2 place(s)', '1 image(s)', '<image>'),
  prompt(47, 'one for none', () => model.ask([], 'what is in <image>?'), 'IMAGE_TOKEN_COUNT', '1 place(s)', '0 image(s)'),
  prompt(47, 'one for two', () => model.ask([STARS, STARS], 'what is in <image>?'), 'IMAGE_TOKEN_COUNT', '1 place(s)', '2 image(s)'),
  prompt(
    47,
    'messages without a place for the image',
    () => model.ask(STARS, [{ role: 'user', content: [{ type: 'text', text: QUESTION }] }]),
    'IMAGE_TOKEN_COUNT',
    '0 place(s)',
    '1 image(s)',
  ),
  prompt(47, 'ids without an image token', () => generating(0, 1), 'IMAGE_TOKEN_COUNT', '0 image tokens', '256 features'),
  prompt(47, 'ids with 255 tokens for 256 patches', () => generating(255, 1), 'IMAGE_TOKEN_COUNT', '255 image tokens', '256 features'),
  prompt(47, 'ids with an image token and no image', () => generating(1, 0), 'IMAGE_TOKEN_COUNT', '1 image tokens', '0 image(s)'),
  prompt(48, 'nine images of 256 tokens', () => model.ask(new Array<string>(9).fill(STARS), QUESTION), 'CONTEXT_OVERFLOW', /23\d\d tokens/, '2048'),
  prompt(48, 'an answer of 2000 tokens', asking({ maxNewTokens: 2000 }), 'CONTEXT_OVERFLOW', '2000 more', '2048', '"maxNewTokens"'),
  ...[0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '5'].map((value) =>
    prompt(49, `maxNewTokens of ${show(value)}`, asking({ maxNewTokens: value }), 'BAD_MAX_NEW_TOKENS', '"maxNewTokens"', String(value)),
  ),
  ...(
    [
      ['temperature', Number.NaN],
      ['temperature', -0.5],
      ['temperature', Number.POSITIVE_INFINITY],
      ['temperature', '0.5'],
      ['topP', 0],
      ['topP', 1.5],
      ['topP', Number.NaN],
      ['topK', -1],
      ['topK', 2.5],
      ['seed', -1],
      ['seed', 2 ** 32],
    ] as const
  ).map(([option, value]) => prompt(49, `${option} of ${show(value)}`, asking({ [option]: value }), 'BAD_SAMPLING', `"${option}"`, String(value))),
  prompt(49, 'an empty stop string', asking({ stop: ['.', ''] }), 'BAD_STOP', '"stop"', '""'),
  prompt(49, 'a stop string that is a number', asking({ stop: 5 }), 'BAD_STOP', '"stop"', '5'),
  {
    kind: 49,
    what: 'another way to fit',
    act: asking({ aspect: 'squash' }),
    name: 'ImageError',
    code: 'ASPECT_INVALID',
    tells: ['"squash"', '"pad"'],
  },
  ...(
    [
      ['ask', 'maxTokens', asking({ maxTokens: 5 })],
      ['generate', 'max_new_tokens', () => model.generate({ inputIds: [2, 10] }, { max_new_tokens: 5 } as GenerateOptions)],
      ['forward', 'pruning', () => model.forward({ inputIds: [2, 10] }, { pruning: 'none' } as object)],
      ['loadModel', 'device', () => loadModel(SHIPPED, { device: 'wasm' } as object)],
      ['say', 'image', () => model.chat().say(QUESTION, { image: STARS } as object)],
      ['prepareImages', 'size', () => model.prepareImages([STARS], { size: 64 } as object)],
    ] as const
  ).map(
    ([owner, option, act]): Refusal => ({
      kind: 49,
      what: `${owner} with an option that it does not have`,
      act,
      name: 'ConfigError',
      code: 'OPTION_UNKNOWN',
      tells: [`${owner} has no option "${option}"`],
    }),
  ),
  prompt(49, 'a question that is missing', () => model.ask(STARS, undefined as unknown as string), 'EMPTY_PROMPT', 'undefined'),
  prompt(49, 'a conversation without a message', () => model.ask([], []), 'EMPTY_PROMPT', 'no message'),
  prompt(49, 'a message without content', () => model.ask([], [{ role: 'user' } as ChatMessage]), 'EMPTY_PROMPT', 'undefined'),
  prompt(49, 'ids that are missing', () => model.generate({} as { inputIds: number[] }), 'BAD_TOKEN_ID', 'inputIds is undefined'),
  prompt(49, 'no ids', () => model.generate({ inputIds: [] }), 'EMPTY_PROMPT', 'no tokens'),
  prompt(49, "another tokenizer's id", () => model.generate({ inputIds: [2, 73] }), 'BAD_TOKEN_ID', 'inputIds[1] is 73', '72'),
  prompt(49, 'a special token in the question', () => model.ask([], 'what is </s>?'), 'SPECIAL_TOKEN_IN_TEXT', '</s>'),
  disposed(
    'a model',
    async () => {
      const other = await loadModel(SHIPPED);
      other.dispose();
      other.dispose();
      return other.ask([], QUESTION);
    },
    'model',
  ),
  disposed(
    'an image that was prepared',
    async () => {
      const [prepared] = await model.prepareImages([STARS]);
      prepared?.pixelValues.dispose();
      prepared?.pixelValues.dispose();
      return model.ask(prepared as NonNullable<typeof prepared>, QUESTION);
    },
    'image 0',
  ),
  disposed(
    'images that were encoded',
    async () => {
      const prepared = await model.prepareImages([STARS]);
      const encoded = await model.encodeImages(prepared);
      tf.dispose(prepared.map(({ pixelValues }) => pixelValues));
      encoded.dispose();
      encoded.dispose();
      return model.ask(encoded, QUESTION);
    },
    'encoded images',
  ),
  disposed(
    'a chat',
    async () => {
      const chat = model.chat();
      await chat.say(QUESTION, { images: STARS });
      chat.dispose();
      chat.dispose();
      return chat.say('and the red one?');
    },
    'chat',
  ),
  disposed(
    'a key-value cache',
    async () => {
      const cache = new ConcatKeyValueCache({ heads: 1, keyValueHeads: 1, headDim: 2 });
      cache.dispose();
      cache.dispose();
      const query = tf.zeros<tf.Rank.R2>([1, 2]);
      try {
        return cache.attend(query);
      } finally {
        query.dispose();
      }
    },
    'key-value cache',
  ),
  disposed(
    'a safetensors file',
    async () => {
      const file = await readSafetensors(join(SHIPPED, 'model.safetensors'));
      await file.close();
      await file.close();
      return file.tensor('language_model.lm_head.weight');
    },
    'model.safetensors',
  ),
  disposed(
    'a checkpoint',
    async () => {
      const checkpoint = await readCheckpoint(SHIPPED);
      await checkpoint.close();
      await checkpoint.close();
      return checkpoint.bytes('language_model.lm_head.weight');
    },
    'model.safetensors',
  ),
  disposed(
    "a model's layers",
    async () => {
      const other = await loadModel(SHIPPED);
      const { language } = other.layers;
      other.dispose();
      return language.embed(Int32Array.of(2));
    },
    'embed_tokens.weight',
  ),
]);

function show(value: unknown): string {
  return typeof value === 'string' ? `"${value}"` : String(value);
}

works(50, 'a prompt cache that was disposed starts anew', async () => {
  const cache = new PromptCache();
  const first = await model.ask([], QUESTION, { cache });
  cache.dispose();
  cache.dispose();
  const second = await model.ask([], QUESTION, { cache });
  expect([second.text, second.usage.cachedTokens]).toEqual([first.text, 0]);
  cache.dispose();
});

/** Aborts when the part of the model is first reached. */
function abortIn(part: string, controller: AbortController): Tap {
  return (name) => {
    if (name.startsWith(part)) controller.abort(new Error('enough'));
  };
}

works(50, "an abort ends a call with the signal's reason, wherever it comes, and the model goes on", async () => {
  const right = (await model.ask(STARS, QUESTION)).text;
  for (const part of ['before', 'vision_tower', 'language_model'] as const) {
    const controller = new AbortController();
    if (part === 'before') controller.abort(new Error('enough'));
    const asked = model.ask(STARS, QUESTION, {
      signal: controller.signal,
      tap: abortIn(part, controller),
      prune: { method: 'vispruner', tokens: 16 },
    });
    await expect(asked).rejects.toThrow('enough');
    expect((await model.ask(STARS, QUESTION)).text).toBe(right);
  }
});

works(50, 'an abort while the model loads, of a queued call, and of a chat', async () => {
  const loading = new AbortController();
  const load = loadModel(SHIPPED, { signal: loading.signal, progress: () => loading.abort(new Error('enough')) });
  await expect(load).rejects.toThrow('enough');
  const queued = new AbortController();
  const first = model.ask(STARS, QUESTION);
  const second = model.ask([], QUESTION, { signal: queued.signal });
  queued.abort(new Error('enough'));
  await expect(second).rejects.toThrow('enough');
  await first;
  const chat = model.chat();
  const turn = new AbortController();
  await expect(chat.say(QUESTION, { images: STARS, signal: turn.signal, tap: abortIn('language_model', turn) })).rejects.toThrow('enough');
  expect((await chat.say(QUESTION, { images: STARS })).text).toBe((await model.ask(STARS, QUESTION)).text);
  chat.dispose();
});
