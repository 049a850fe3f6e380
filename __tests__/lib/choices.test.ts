import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel, type VisionLanguageModel } from '../../lib';
import type { AskOptions } from '../../lib/answer';
import type { ChatMessage, ChatProcessor } from '../../lib/chat';
import { rankChoices } from '../../lib/choices';
import { withoutLeaks } from '../support/backends';
import { readJson } from '../support/recorded';
import { chatFor, chatOf, KINDS, scenesChat, tokenizerFiles } from '../support/tokenizers';

const ROOT = join(__dirname, '..', '..');
const IMAGE = join(ROOT, 'examples/images/stars.png');
const CONVERSATIONS: readonly ChatMessage[][] = [
  [{ role: 'user', content: 'is there a red star ?' }],
  [
    { role: 'user', content: 'is there a red star ?' },
    { role: 'assistant', content: 'yes' },
    { role: 'user', content: 'where is the star ?' },
  ],
];

describe('a choice as tokens', () => {
  const chats: readonly [string, () => Promise<ChatProcessor>][] = [
    ...KINDS.map((kind) => [kind, () => chatFor(kind)] as const),
    ['shipped', scenesChat] as const,
  ].map(([name, make]) => [name, make]);

  it.each(chats)('%s: what the prompt of the next turn has in the place of the answer', async (name, make) => {
    const chat = await make();
    const answers = name === 'shipped' ? ['yes', 'no', 'left', '3'] : ['yes', 'no', 'The bird, I think.', 'übermäßig 🙂', '3'];
    for (const messages of CONVERSATIONS) {
      const prompt = Array.from(chat.encode(messages, 0));
      const ids = chat.encodeAnswers(messages, 0, answers);
      for (const [i, answer] of answers.entries()) {
        const own = Array.from(ids[i] as Int32Array);
        const later = Array.from(
          chat.encode([...messages, { role: 'assistant', content: answer }, { role: 'user', content: 'is there a star ?' }], 0),
        );
        expect(later.slice(0, prompt.length + own.length)).toEqual([...prompt, ...own]);
        expect(chat.tokenBytes.isSpecial(later[prompt.length + own.length] as number)).toBe(true); // the template ends the turn with a special token
        expect(chat.decode(own)).toBe(answer);
      }
    }
  });

  it('takes no end of the turn that the template writes as text, and no space that it adds', async () => {
    const template = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}';
    const chat = await chatOf({ ...tokenizerFiles('llama'), 'chat_template.jinja': template });
    const [ids] = chat.encodeAnswers([{ role: 'user', content: 'Is it?' }], 0, [' yes ']);
    expect(chat.decode(ids as Int32Array)).toBe('yes');
  });

  it('that the tokenizer would join with the end of the prompt is refused: the model could not write it so', async () => {
    const template = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}';
    const chat = await chatOf({ ...tokenizerFiles('llama'), 'chat_template.jinja': template });
    expect(() => chat.encodeAnswers([{ role: 'user', content: 'Is it?' }], 0, ['the'])).toThrow(expect.objectContaining({ code: 'BAD_CHOICES' }));
  });

  it.each(['</s>', 'yes<s>', '<image>'])('%p is refused', async (answer) => {
    const chat = await chatFor('llama');
    expect(() => chat.encodeAnswers([{ role: 'user', content: 'Is it?' }], 0, ['yes', answer])).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^(SPECIAL_TOKEN_IN_TEXT|BAD_CHOICES)$/) }),
    );
  });
});

describe('ranking', () => {
  const score = (...logprobs: number[]) => {
    const logprob = logprobs.reduce((sum, one) => sum + one, 0);
    return { ids: Int32Array.from(logprobs.keys()), logprobs: Float32Array.from(logprobs), logprob, meanLogprob: logprob / logprobs.length };
  };

  it('is by the mean, so that a long choice is at no disadvantage, and ties stay in order', () => {
    const ranked = rankChoices(['short', 'long', 'same', 'worst'], [score(-2), score(-1, -1, -1), score(-1), score(-9)]);
    expect(ranked.map(({ text }) => text)).toEqual(['long', 'same', 'short', 'worst']);
    expect(ranked[0]?.logprob).toBe(-3);
    expect(ranked.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 9);
    expect(ranked[0]?.probability).toBeCloseTo(1 / (2 + Math.exp(-1) + Math.exp(-8)), 9);
  });

  it('stands choices that are all but impossible', () => {
    expect(rankChoices(['a', 'b'], [score(-2000), score(-2001)]).map(({ probability }) => probability)).toEqual([
      expect.closeTo(1 / (1 + Math.exp(-1)), 9),
      expect.closeTo(1 / (1 + Math.E), 9),
    ]);
  });
});

describe('the shipped model chooses', () => {
  let model: VisionLanguageModel;

  beforeAll(async () => {
    model = await loadModel(join(ROOT, 'weights/vispruner-tiny'), { backend: 'wasm' });
  });

  afterAll(() => model.dispose());

  it('what it writes, as likely as it says while writing, in recorded questions', async () => {
    const { cases } = readJson<{ cases: { image: string; question: string; text: string }[] }>('shipped', 'reference.json');
    const texts = [...new Set(cases.map(({ text }) => text))];
    expect(texts.length).toBeGreaterThan(2);
    for (const { image, question, text } of cases) {
      const path = join(ROOT, 'examples/images', image);
      const { choices, ...chosen } = await model.ask(path, question, { choices: texts });
      expect([chosen.text, chosen.finishReason]).toEqual([text, 'stop']);
      expect(choices?.map((choice) => choice.text).sort()).toEqual([...texts].sort());
      const written = await model.ask(path, question, { logprobs: 0 });
      expect(chosen.ids).toEqual(written.ids);
      expect(choices?.[0]?.logprob).toBeCloseTo(written.logprobs?.reduce((sum, { logprob }) => sum + logprob, 0) as number, 4);
    }
  });

  it('with every kind of pruning, streamed as in one, and leaves nothing behind', async () => {
    const question = 'where is the yellow object?';
    for (const prune of [undefined, { method: 'vispruner', tokens: 28 }, { method: 'fastv', layer: 1, tokens: 100 }] as const) {
      await withoutLeaks(async () => {
        const options: AskOptions = { prune, choices: ['left', 'right', 'above', 'below', 'yes', '3'] };
        const whole = await model.ask(IMAGE, question, options);
        const pieces: string[] = [];
        for await (const piece of model.stream(IMAGE, question, options)) pieces.push(piece);
        expect(pieces.join('')).toBe(whole.text);
        expect(whole.choices?.map(({ meanLogprob }) => meanLogprob)).toEqual(
          [...(whole.choices ?? [])].map((one) => one.meanLogprob).sort((a, b) => b - a),
        );
      });
    }
  });

  it('in a later turn of a chat, from what the cache holds', async () => {
    const chat = model.chat();
    const choices = ['yes', 'no'];
    await chat.say('is there a red star?', { images: IMAGE, choices });
    const turn = await chat.say('is there a blue circle?', { choices });
    expect(turn.usage.cachedTokens).toBeGreaterThan(250);
    const messages = chat.messages.slice(0, -1);
    const whole = await model.ask(IMAGE, messages, { choices });
    expect(whole.text).toBe(turn.text);
    for (const [i, choice] of (whole.choices ?? []).entries()) expect(turn.choices?.[i]?.logprob).toBeCloseTo(choice.logprob, 3);
    chat.dispose();
  });

  it.each<[string, AskOptions, string]>([
    ['no choice', { choices: [] }, 'BAD_CHOICES'],
    ['no list', { choices: 'yes' as unknown as string[] }, 'BAD_CHOICES'],
    ['an empty choice', { choices: ['yes', ' '] }, 'BAD_CHOICES'],
    ['a number', { choices: [1 as unknown as string] }, 'BAD_CHOICES'],
    ['the same twice', { choices: ['yes', 'no', ' yes'] }, 'BAD_CHOICES'],
    ['a word that the tokenizer lacks', { choices: ['yes', 'banana'] }, 'BAD_CHOICES'],
    ['a special token', { choices: ['yes', 'no</s>'] }, 'SPECIAL_TOKEN_IN_TEXT'],
    ['a temperature', { choices: ['yes', 'no'], temperature: 0.5 }, 'OPTION_CONFLICT'],
    ['a stop string', { choices: ['yes', 'no'], stop: 'x' }, 'OPTION_CONFLICT'],
    ['a limit', { choices: ['yes', 'no'], maxNewTokens: 3 }, 'OPTION_CONFLICT'],
    ['logprobs', { choices: ['yes', 'no'], logprobs: 3 }, 'OPTION_CONFLICT'],
  ])('%s is refused by name', async (_what, options, code) => {
    const before = tf.memory().numTensors;
    await expect(model.ask(IMAGE, 'is there a star?', options)).rejects.toMatchObject({ code });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('tells the tokens of a written answer as text and bytes, and each as it is drawn', async () => {
    const seen: unknown[] = [];
    const answer = await model.ask(IMAGE, 'where is the yellow object?', { logprobs: 2, onToken: ({ logprobs }) => seen.push(logprobs) });
    expect(answer.logprobs).toHaveLength(answer.ids.length);
    expect(answer.logprobs?.map(({ token }) => token).join(' ')).toBe(answer.text);
    expect(answer.logprobs?.[0]?.top[0]).toMatchObject({
      token: answer.text.split(' ')[0],
      bytes: [...Buffer.from(answer.text.split(' ')[0] as string)],
    });
    expect(seen.slice(0, answer.ids.length)).toEqual(answer.logprobs);
  });
});
