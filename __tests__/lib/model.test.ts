import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import type { Tap } from '../../layers/tap';
import type { Answer, AskOptions, QuestionImages } from '../../lib/answer';
import type { ChatMessage } from '../../lib/chat';
import { decodeImage } from '../../lib/image/decode_node';
import { loadModel } from '../../lib/load';
import type { VisionLanguageModel } from '../../lib/model';
import { memoryDirectory } from '../../weights/byte_directory';
import { withoutLeaks } from '../support/backends';
import { LANGUAGE_CONFIG, modelFiles, PATCHES } from '../support/memory_model';

const IMAGES = join(__dirname, '../fixtures/images');
const png = new Uint8Array(readFileSync(join(IMAGES, 'rgb.png')));
const tall = new Uint8Array(readFileSync(join(IMAGES, '../preprocess/tall.png')));
const QUESTION = 'What color is the square?';
/** Drawn hot: a random model's greedy answer is one word again and again. */
const OPTIONS = { maxNewTokens: 12, temperature: 2, seed: 3 } as const;

let model: VisionLanguageModel;

beforeAll(async () => {
  const files = await modelFiles();
  model = await loadModel(memoryDirectory(new Map(Object.entries(files))), { backend: 'wasm' });
});

afterAll(() => model.dispose());

async function streamed(
  images: QuestionImages,
  question: string | readonly ChatMessage[],
  options: AskOptions,
): Promise<Answer & { pieces: string[] }> {
  const pieces: string[] = [];
  const stream = model.stream(images, question, options);
  for (;;) {
    const step = await stream.next();
    if (step.done) return { ...step.value, pieces };
    pieces.push(step.value);
  }
}

/** The same by the parts of the model: prepared images, ids, generated ids, decoded. */
async function byHand(images: readonly Uint8Array[], messages: readonly ChatMessage[]): Promise<{ text: string; ids: number[] }> {
  const prepared = await model.prepareImages(images);
  const inputIds = model.chatProcessor.encode(messages, images.length);
  const { ids } = await model.generate({ inputIds, images: prepared }, OPTIONS);
  for (const { pixelValues } of prepared) pixelValues.dispose();
  return { text: model.chatProcessor.decode(ids), ids: Array.from(ids) };
}

const image = { type: 'image' } as const;
const words = (text: string) => ({ type: 'text', text }) as const;

describe('an answer', () => {
  it.each<[string, readonly Uint8Array[], string | ChatMessage[], ChatMessage[]]>([
    ['one image', [png], QUESTION, [{ role: 'user', content: [image, words(QUESTION)] }]],
    ['several images', [png, tall], QUESTION, [{ role: 'user', content: [image, image, words(QUESTION)] }]],
    ['no image', [], QUESTION, [{ role: 'user', content: [words(QUESTION)] }]],
    ['image tokens inside the question', [png, tall], 'is <image> left of <image> ?', [{ role: 'user', content: 'is <image> left of <image> ?' }]],
    [
      'several turns',
      [png, tall],
      [
        { role: 'user', content: [image, words(QUESTION)] },
        { role: 'assistant', content: 'red' },
        { role: 'user', content: '<image> and the circle ?' },
      ],
      [
        { role: 'user', content: [image, words(QUESTION)] },
        { role: 'assistant', content: [words('red')] },
        { role: 'user', content: [words('<image> and the circle ?')] },
      ],
    ],
  ])('%s: asked, streamed and made by hand are one text', async (_, images, question, messages) => {
    const expected = await withoutLeaks(() => byHand(images, messages));
    const answer = await withoutLeaks(() => model.ask(images, question, OPTIONS));
    const { pieces, ...stream } = await withoutLeaks(() => streamed(images, question, OPTIONS));
    expect(expected.ids.length).toBeGreaterThan(3);
    expect({ text: answer.text, ids: Array.from(answer.ids) }).toEqual(expected);
    expect({ text: stream.text, ids: Array.from(stream.ids) }).toEqual(expected);
    expect(pieces.join('')).toBe(expected.text);
    expect(pieces.length).toBeGreaterThan(1);
    expect(answer.usage).toMatchObject({ visualTokens: images.length * PATCHES, newTokens: expected.ids.length });
    expect(answer.visual).toHaveLength(images.length);
  });

  it('depends on the image', async () => {
    const [first, second, none] = [
      await model.ask(png, QUESTION, OPTIONS),
      await model.ask(tall, QUESTION, OPTIONS),
      await model.ask([], QUESTION, OPTIONS),
    ];
    expect(new Set([first.text, second.text, none.text]).size).toBe(3);
  });

  it('is the same for an image as bytes, path, pixels, prepared and encoded; what the caller made stays his', async () => {
    const expected = await model.ask(png, QUESTION, OPTIONS);
    const pixels = await decodeImage(png);
    const prepared = await model.prepareImages([png]);
    const encoded = await model.encodeImages(prepared);
    const [one] = prepared;
    for (const given of [pixels, join(IMAGES, 'rgb.png'), [png], prepared, encoded, one as NonNullable<typeof one>]) {
      const { text } = await withoutLeaks(() => model.ask(given, QUESTION, OPTIONS));
      expect(text).toBe(expected.text);
    }
    const mixed = await withoutLeaks(() => model.ask([...prepared, tall], QUESTION, OPTIONS));
    expect(mixed.text).toBe((await model.ask([png, tall], QUESTION, OPTIONS)).text);
    expect(one?.pixelValues.isDisposed).toBe(false);
    encoded.dispose();
    one?.pixelValues.dispose();
    await expect(model.ask(encoded, QUESTION)).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect(withoutLeaks(() => model.ask(prepared, QUESTION))).rejects.toMatchObject({ code: 'DISPOSED' });
  });

  it('ends before a stop string, which is in no piece', async () => {
    const free = await model.ask(png, QUESTION, OPTIONS);
    const stop = free.text.slice(7, 10);
    const cut = await withoutLeaks(() => streamed(png, QUESTION, { ...OPTIONS, stop }));
    expect(cut.text).toBe(free.text.slice(0, free.text.indexOf(stop)));
    expect(cut.pieces.join('')).toBe(cut.text);
    expect(cut.finishReason).toBe('stop');
    expect(cut.ids.length).toBeLessThan(free.ids.length);
    const other = await model.ask(png, QUESTION, { ...OPTIONS, stop: ['not in it', stop] });
    expect(other.text).toBe(cut.text);
  });

  it('tells what a pruner kept, and its times are no less than zero and add up', async () => {
    const { usage, visual, timing } = await withoutLeaks(() =>
      model.ask([png, tall], QUESTION, { ...OPTIONS, prune: { method: 'vispruner', tokens: 4 } }),
    );
    expect(usage).toMatchObject({ visualTokens: 8, visualTokensBefore: 2 * PATCHES });
    expect(visual.map(({ image: index, kept }) => [index, kept.length])).toEqual([
      [0, 4],
      [1, 4],
    ]);
    for (const [name, value] of Object.entries(timing)) expect([name, value >= 0]).toEqual([name, true]);
    expect(timing.total).toBeGreaterThanOrEqual(timing.firstToken);
    expect(timing.firstToken).toBeGreaterThanOrEqual(timing.prepare + timing.encode);
  });

  it('several at once answer as one after another', async () => {
    const together = await withoutLeaks(() => Promise.all([png, tall].map((one) => model.ask(one, QUESTION, OPTIONS))));
    expect(together[0]?.text).toBe((await model.ask(png, QUESTION, OPTIONS)).text);
    expect(together[1]?.text).toBe((await model.ask(tall, QUESTION, OPTIONS)).text);
  });
});

describe('nothing is left behind', () => {
  it.each<[string, QuestionImages, string, object]>([
    ['an image that is none', new Uint8Array([1, 2, 3]), QUESTION, { name: 'ImageError' }],
    ['a second image that is cut off', [png, png.slice(0, 40)], QUESTION, { name: 'ImageError' }],
    ['a path that leads nowhere', 'no such picture.png', QUESTION, { code: 'IMAGE_NOT_FOUND' }],
    ['too few image tokens', [png, tall], 'is <image> red ?', { code: 'IMAGE_TOKEN_COUNT' }],
    ['a special token in the question', png, 'what is </s> ?', { code: 'SPECIAL_TOKEN_IN_TEXT' }],
    ['too many images for the context', new Array<Uint8Array>(12).fill(png), QUESTION, { code: 'CONTEXT_OVERFLOW' }],
  ])('after %s, and the next answer comes', async (_, images, question, expected) => {
    const before = tf.memory().numTensors;
    await expect(model.ask(images, question, OPTIONS)).rejects.toMatchObject(expected);
    expect(tf.memory().numTensors).toBe(before);
    expect((await model.ask([], QUESTION, { maxNewTokens: 1 })).ids.length).toBeLessThanOrEqual(1);
  });

  it.each([1, 2, 5])('when the loop is left after %i pieces', async (count) => {
    const seen: string[] = [];
    await withoutLeaks(async () => {
      for await (const piece of model.stream([png, tall], QUESTION, OPTIONS)) {
        seen.push(piece);
        if (seen.length === count) break;
      }
    });
    expect(seen).toHaveLength(count);
  });

  it.each<[string, (abort: () => void) => AskOptions]>([
    [
      'before anything',
      (abort) => {
        abort();
        return {};
      },
    ],
    [
      'while an image is decoded',
      (abort) => {
        queueMicrotask(abort);
        return {};
      },
    ],
    ['in the encoder', (abort) => ({ tap: abortAt('vision_tower', abort) })],
    ['in the decoder', (abort) => ({ tap: abortAt('language_model', abort) })],
  ])('when it is aborted %s, with the signal as its reason', async (_, options) => {
    const controller = new AbortController();
    const asked = options(() => controller.abort(new Error('enough')));
    const before = tf.memory().numTensors;
    await expect(model.ask([png, tall], QUESTION, { ...OPTIONS, maxNewTokens: 60, ...asked, signal: controller.signal })).rejects.toThrow('enough');
    expect(tf.memory().numTensors).toBe(before);
  });

  it('when it is aborted between pieces', async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    const before = tf.memory().numTensors;
    const read = async () => {
      for await (const piece of model.stream(png, QUESTION, { ...OPTIONS, maxNewTokens: 60, signal: controller.signal })) {
        seen.push(piece);
        if (seen.length === 2) controller.abort(new Error('enough'));
      }
    };
    await expect(read()).rejects.toThrow('enough');
    expect(tf.memory().numTensors).toBe(before);
    expect(seen.length).toBeLessThan(60);
  });
});

describe('a language model alone', () => {
  it('answers without an image, refuses one, and is gone when disposed', async () => {
    const before = tf.memory().numTensors;
    const alone = await loadModel(memoryDirectory(new Map(Object.entries(await modelFiles(LANGUAGE_CONFIG)))));
    const { text, visual } = await withoutLeaks(() => alone.ask([], QUESTION, OPTIONS));
    expect(text).not.toBe('');
    expect(visual).toEqual([]);
    await expect(alone.ask(png, QUESTION)).rejects.toMatchObject({ code: 'NO_VISION' });
    alone.dispose();
    expect(tf.memory().numTensors).toBe(before);
    await expect(alone.ask([], QUESTION)).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});

function abortAt(module: string, abort: () => void): Tap {
  return (name) => {
    if (name.startsWith(module)) abort();
  };
}
