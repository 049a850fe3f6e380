import type { ChatMessage, ChatProcessor } from '../../../lib/chat';
import { chatFor, chatOf, KINDS, type Kind, LANGUAGE_ALONE, readTokenizerFixture, scenesChat, tokenizerFiles } from '../../support/tokenizers';

type Recorded = Record<Kind, { ids: number[][]; decoded: string[] }> & {
  readonly strings: readonly string[];
  readonly conversations: readonly ({ name: string; messages: ChatMessage[]; llama_alone: number[] } & Record<Kind, number[]>)[];
};

const recorded = readTokenizerFixture<Recorded>('reference.json');

describe.each(KINDS)('%s: as transformers', (kind) => {
  let chat: ChatProcessor;

  beforeAll(async () => {
    chat = await chatFor(kind);
  });

  it('every recorded string gives the same ids', () => {
    const ids = recorded.strings.map((text) => [text, Array.from(chat.encodeText(text))]);
    expect(ids).toEqual(recorded.strings.map((text, i) => [text, recorded[kind].ids[i]]));
  });

  it('and the ids give the same text', () => {
    expect(recorded[kind].ids.map((ids) => chat.decode(ids))).toEqual(recorded[kind].decoded);
  });

  it('the pieces of the text, id by id, are the text', () => {
    for (const [i, ids] of recorded[kind].ids.entries()) {
      const decoder = chat.decoder();
      const pieces = ids.map((id) => decoder.push(id));
      expect([...pieces, decoder.end()].join('')).toBe(recorded[kind].decoded[i]);
    }
  });

  it.each(recorded.conversations.map((one) => [one.name, one] as const))('%s: the same ids', (_, conversation) => {
    expect(Array.from(chat.encode(conversation.messages, placesIn(conversation.messages)))).toEqual(conversation[kind]);
  });

  it('image tokens in a string are places as image parts are', () => {
    const asString = chat.encode([{ role: 'user', content: '<image>\nWhat is the bird looking at?' }], 1);
    expect(Array.from(asString)).toEqual(recorded.conversations.find(({ name }) => name === 'one image')?.[kind]);
  });
});

describe('a language model alone, as transformers', () => {
  it('gets no first token beyond what its own template writes', async () => {
    const chat = await chatOf(tokenizerFiles('llama'), LANGUAGE_ALONE);
    const conversation = recorded.conversations.find(({ name }) => name === 'no image');
    expect(Array.from(chat.encode(conversation?.messages ?? [], 0))).toEqual(conversation?.llama_alone);
  });

  it('gets it with the default template, which leaves it to the tokenizer', async () => {
    const chat = await chatOf({ ...tokenizerFiles('llama'), 'chat_template.jinja': undefined }, LANGUAGE_ALONE);
    expect(chat.encode([{ role: 'user', content: 'Say something.' }], 0)[0]).toBe(chat.tokenizer.token_to_id('<s>'));
  });
});

describe('the shipped tokenizer', () => {
  it('writes the prompt that the model was trained on', async () => {
    const chat = await scenesChat();
    const ids = chat.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'What color is the square?' }] }], 1);
    expect(Array.from(ids, (id) => chat.tokenizer.id_to_token(id))).toEqual([
      '<s>',
      'USER:',
      '<image>',
      'what',
      'color',
      'is',
      'the',
      'square',
      '?',
      'ASSISTANT:',
    ]);
  });
});

function placesIn(messages: readonly ChatMessage[]): number {
  return messages.flatMap(({ content }) => (typeof content === 'string' ? [] : [...content])).filter(({ type }) => type === 'image').length;
}
