import fc from 'fast-check';
import { type ChatProcessor, Detokenizer } from '../../../lib/chat';
import { chatFor, scenesChat } from '../../support/tokenizers';

describe.each([
  ['llama', () => chatFor('llama')],
  ['chatml', () => chatFor('chatml')],
  ['the shipped tokenizer', scenesChat],
] as const)('%s', (_, load: () => Promise<ChatProcessor>) => {
  let chat: ChatProcessor;

  beforeAll(async () => {
    chat = await load();
  });

  /** Whatever a model may write: also special tokens, halves of characters, and ids beyond the vocabulary. */
  function anyIds(): fc.Arbitrary<number[]> {
    return fc.array(fc.nat(chat.tokenizer.get_vocab().size + 3), { maxLength: 40 });
  }

  function texts(): fc.Arbitrary<string> {
    return fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 20 }),
      fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => !text.includes('\ufeff')),
    );
  }

  it('pieces of any ids together are the text of all', () => {
    fc.assert(
      fc.property(anyIds(), (ids) => {
        const decoder = chat.decoder();
        expect(ids.map((id) => decoder.push(id)).join('') + decoder.end()).toBe(chat.decode(ids));
      }),
      { numRuns: 500 },
    );
  });

  it("what was given out stays: each moment's text is the beginning of the next", () => {
    fc.assert(
      fc.property(anyIds(), (ids) => {
        const decoder = chat.decoder();
        const whole = chat.decode(ids);
        let given = '';
        for (const id of ids) {
          given += decoder.push(id);
          expect(whole.startsWith(given)).toBe(true);
        }
      }),
    );
  });

  it('never gives out half a character', () => {
    fc.assert(
      fc.property(texts(), (text) => {
        const ids = Array.from(chat.encodeText(text));
        const whole = chat.decode(ids);
        fc.pre(!whole.includes('\ufffd'));
        const decoder = chat.decoder();
        const pieces = [...ids.map((id) => decoder.push(id)), decoder.end()];
        expect(pieces.join('')).toBe(whole);
        for (const piece of pieces) expect(piece).not.toMatch(/\ufffd|\p{Surrogate}/u);
      }),
      { numRuns: 300 },
    );
  });
});

describe('a character of four bytes', () => {
  it.each(['llama', 'chatml'] as const)('%s: comes once, with its last byte', async (kind) => {
    const chat = await chatFor(kind);
    const decoder = chat.decoder();
    const pieces = Array.from(chat.encodeText('a😀b'), (id) => decoder.push(id));
    expect(pieces.filter((piece) => piece !== '')).toEqual(['a', '😀', 'b']);
    expect(decoder.end()).toBe('');
  });

  it.each(['llama', 'chatml'] as const)('%s: one that never gets whole is given out at the end', async (kind) => {
    const chat = await chatFor(kind);
    const ids = Array.from(chat.encodeText('a😀')).slice(0, -1);
    const decoder = chat.decoder();
    expect(ids.map((id) => decoder.push(id)).join('')).toBe('a');
    expect(decoder.end()).toBe('\ufffd');
  });
});

describe('the text so far', () => {
  it('is decoded in windows: the work for a token does not grow with the text', () => {
    let longest = 0;
    const decoder = new Detokenizer((ids) => {
      longest = Math.max(longest, ids.length);
      return ids.map((id) => String.fromCharCode(97 + (id % 26))).join('');
    });
    for (let i = 0; i < 1000; i++) decoder.push(i);
    expect(longest).toBeLessThan(4);
  });
});
