import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Answer, type Chat, type ChatMessage, loadModel, memoryDirectory, type PruneOptions, type VisionLanguageModel } from '../../lib';
import { withoutLeaks } from '../support/backends';
import { modelFiles } from '../support/memory_model';

const IMAGES = join(__dirname, '../fixtures/images');
const square = new Uint8Array(readFileSync(join(IMAGES, 'rgb.png')));
const tall = new Uint8Array(readFileSync(join(IMAGES, '../preprocess/tall.png')));
/** Drawn hot: a random model's greedy answer is one word again and again. */
const DRAW = { maxNewTokens: 6, temperature: 2, seed: 3 } as const;

let model: VisionLanguageModel;

beforeAll(async () => {
  model = await loadModel(memoryDirectory(new Map(Object.entries(await modelFiles()))), { backend: 'wasm' });
});

afterAll(() => model.dispose());

/** What the whole conversation gives when it is asked at once; `said` is all of it but the last answer. */
function atOnce(images: readonly Uint8Array[], said: readonly ChatMessage[], prune?: PruneOptions): Promise<Answer> {
  return model.ask(images, said, { ...DRAW, prune });
}

async function turn(chat: Chat, text: string, images?: readonly Uint8Array[]): Promise<Answer> {
  const answer = await chat.say(text, { images });
  expect(chat.messages.at(-1)).toEqual({ role: 'assistant', content: answer.text });
  return answer;
}

describe('a chat', () => {
  it.each<PruneOptions>([{ method: 'none' }, { method: 'vispruner', tokens: 5 }, { method: 'random', tokens: 4, seed: 9 }])(
    'answers as the whole conversation asked at once, and computes only what is new: %j',
    async (prune) => {
      await withoutLeaks(async () => {
        const chat = model.chat({ prune, ...DRAW });
        const shown: Uint8Array[] = [];
        let before = 0;
        for (const [i, [text, image]] of (
          [['what color is it?', square], ['is there a star?'], ['and here?', tall], ['where is it?']] as [string, Uint8Array?][]
        ).entries()) {
          if (image) shown.push(image);
          const answer = await turn(chat, text, image && [image]);
          const whole = await atOnce(shown, chat.messages.slice(0, -1), prune);
          expect(answer.text).toBe(whole.text);
          expect([...answer.ids]).toEqual([...whole.ids]);
          expect(answer.visual).toEqual(whole.visual);
          expect({ ...answer.usage, cachedTokens: 0 }).toEqual(whole.usage);
          // all of the turn before, but the end of its answer where its text is split into other tokens than were drawn
          expect(answer.usage.cachedTokens).toBeGreaterThanOrEqual(before);
          if (i > 0) expect(answer.usage.cachedTokens).toBeGreaterThan(0);
          before = answer.usage.promptTokens;
        }
        chat.dispose();
      });
    },
  );

  it('starts anew at each turn with a method that reads the text', async () => {
    await withoutLeaks(async () => {
      const prune = { method: 'fastv', tokens: 4, layer: 1 } as const;
      const chat = model.chat({ prune, ...DRAW });
      await turn(chat, 'what color is it?', [square]);
      const second = await turn(chat, 'is there a star?');
      expect(second.usage.cachedTokens).toBe(0);
      expect([...second.ids]).toEqual([...(await atOnce([square], chat.messages.slice(0, -1), prune)).ids]);
      chat.dispose();
    });
  });

  it('takes images at any turn, several at once, and at their places in the text', async () => {
    await withoutLeaks(async () => {
      const chat = model.chat(DRAW);
      await turn(chat, 'is there a star?');
      const both = await turn(chat, '<image> and <image> where is it?', [square, tall]);
      expect(both.visual.map(({ image }) => image)).toEqual([0, 1]);
      expect([...both.ids]).toEqual([...(await atOnce([square, tall], chat.messages.slice(0, -1))).ids]);
      chat.dispose();
    });
  });

  it('is unchanged by a turn that fails, is aborted or is left early', async () => {
    await withoutLeaks(async () => {
      const chat = model.chat({ prune: { method: 'vispruner', tokens: 5 }, ...DRAW });
      await turn(chat, 'what color is it?', [square]);
      const before = chat.messages;

      await expect(chat.say('and here?', { images: 'no-such.png' })).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' });
      await expect(chat.say('one <image> too many')).rejects.toMatchObject({ code: 'IMAGE_TOKEN_COUNT' });
      await expect(chat.say('long '.repeat(200))).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW' });
      for await (const _ of chat.stream('and here?', { images: [tall] })) break;
      const controller = new AbortController();
      const stream = chat.stream('and here?', { images: [tall], signal: controller.signal });
      await stream.next();
      controller.abort(new Error('enough'));
      await expect(stream.next()).rejects.toThrow('enough');
      expect(chat.messages).toBe(before);

      const answer = await turn(chat, 'is there a star?');
      expect([...answer.ids]).toEqual([...(await atOnce([square], chat.messages.slice(0, -1), { method: 'vispruner', tokens: 5 })).ids]);
      chat.dispose();
    });
  });

  it('refuses a turn while it answers, and any after dispose, which waits for the answer that runs', async () => {
    await withoutLeaks(async () => {
      const chat = model.chat(DRAW);
      const running = chat.say('what color is it?', { images: square });
      await expect(chat.say('is there a star?')).rejects.toMatchObject({ name: 'StateError', code: 'CHAT_BUSY' });
      chat.dispose();
      await running;
      await expect(chat.say('is there a star?')).rejects.toMatchObject({ name: 'StateError', code: 'DISPOSED' });
      chat.dispose();
    });
  });

  it('refuses wrong options before the first turn', () => {
    expect(() => model.chat({ prune: { method: 'vispruner', tokens: 0 } })).toThrow(expect.objectContaining({ code: 'TOKENS_INVALID' }));
  });

  it('two chats at once do not disturb each other', async () => {
    await withoutLeaks(async () => {
      const chats = [model.chat(DRAW), model.chat(DRAW)] as const;
      await Promise.all([turn(chats[0], 'what color is it?', [square]), turn(chats[1], 'where is it?', [tall])]);
      const [first, second] = await Promise.all([turn(chats[0], 'is there a star?'), turn(chats[1], 'is there a star?')]);
      expect([...first.ids]).toEqual([...(await atOnce([square], chats[0].messages.slice(0, -1))).ids]);
      expect([...second.ids]).toEqual([...(await atOnce([tall], chats[1].messages.slice(0, -1))).ids]);
      for (const chat of chats) chat.dispose();
    });
  });
});
