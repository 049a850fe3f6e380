import { Template } from '@huggingface/jinja';
import { Tokenizer } from '@huggingface/tokenizers';
import {
  ANSWERS,
  BLIND_PROMPT_START,
  buildProcessorFiles,
  encodeQuestion,
  generateScene,
  makeQuestions,
  PROMPT_START,
  QUESTION_TYPES,
  Random,
  tokenId,
  UNKNOWN,
  VOCABULARY,
} from '../../../lib/scenes';

const files = buildProcessorFiles();
const tokenizer = new Tokenizer(files['tokenizer.json'], files['tokenizer_config.json']);
const template = new Template(files['chat_template.jinja']);

function render(text: string): string {
  const content = [{ type: 'image' }, { type: 'text', text }];
  return template.render({ messages: [{ role: 'user', content }], add_generation_prompt: true });
}

describe("the shipped model's tokenizer", () => {
  it('reads a templated question as training wrote it, with no unknown word', () => {
    for (let seed = 0; seed < 150; seed++) {
      for (const { text } of makeQuestions(generateScene(seed), new Random(seed), 7)) {
        const ids = [...PROMPT_START, ...encodeQuestion(text)];
        expect(tokenizer.encode(render(text)).ids).toEqual(ids);
        expect(ids).not.toContain(tokenId(UNKNOWN));
      }
    }
  });

  it('keeps each answer one token, which decodes to itself', () => {
    for (const answer of QUESTION_TYPES.flatMap((type) => ANSWERS[type])) {
      expect(tokenizer.encode(answer, { add_special_tokens: false }).ids).toEqual([tokenId(answer)]);
      expect(tokenizer.decode([tokenId(answer), tokenId('</s>')], { skip_special_tokens: true })).toBe(answer);
    }
  });

  it("takes a sentence's capital and other spellings, but tells the letter A from the article", () => {
    const tokens = (text: string) => tokenizer.encode(text, { add_special_tokens: false }).tokens;
    expect(tokens('What Colour is the thing?')).toEqual(tokens('what color is the object ?'));
    expect(tokens('Is there A or a?')).toEqual(['is', 'there', 'A', 'or', 'a', '?']);
    expect(tokens('is there a zebra?')).toEqual(['is', 'there', 'a', UNKNOWN, '?']);
  });

  it('withholds the image by leaving its token out', () => {
    expect(tokenizer.encode('USER:').ids).toEqual(BLIND_PROMPT_START);
    expect(PROMPT_START.slice(0, -1)).toEqual(BLIND_PROMPT_START);
    expect(VOCABULARY[PROMPT_START.at(-1)!]).toBe('<image>');
  });

  it('writes turns that close each answer', () => {
    const messages = [
      { role: 'user', content: 'is there a star?' },
      { role: 'assistant', content: 'yes' },
    ];
    expect(template.render({ messages })).toBe('USER: is there a star? ASSISTANT: yes</s>');
  });

  it('has one id a token', () => {
    expect(new Set(VOCABULARY).size).toBe(VOCABULARY.length);
    expect(VOCABULARY.map((token) => tokenizer.token_to_id(token))).toEqual(VOCABULARY.map((_, id) => id));
  });
});
