import { ConfigError, PromptError } from '../../../layers/errors';
import { type ChatMessage, type ChatProcessor, loadChatProcessor } from '../../../lib/chat';
import { chatFor, chatOf, directoryOf, type Files, LANGUAGE_ALONE, llavaConfigOf, tokenizerFiles } from '../../support/tokenizers';

const IMAGE = { type: 'image' } as const;
const text = (words: string) => ({ type: 'text', text: words }) as const;
const user = (...content: (typeof IMAGE | ReturnType<typeof text>)[]): ChatMessage => ({ role: 'user', content });

function refusal(run: () => unknown): PromptError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(PromptError);
    return error as PromptError;
  }
  throw new Error('it was not refused');
}

describe('what a prompt may hold', () => {
  let chat: ChatProcessor;

  beforeAll(async () => {
    chat = await chatFor('llama');
  });

  it.each<[string, ChatMessage[], number, number]>([
    ['a place too few', [user(IMAGE, text('a'))], 1, 2],
    ['a place too many', [user(IMAGE, IMAGE, text('a'))], 2, 1],
    ['places over two turns', [user(IMAGE, text('a')), user(IMAGE, text('b'))], 2, 3],
    ['an image token in a text beside an image', [user(IMAGE, text('a <image> b'))], 2, 1],
    ['no place for an image', [user(text('a'))], 0, 1],
    ['tokens that touch', [{ role: 'user', content: '<image><image><image>' }], 3, 7],
  ])('%s: both counts are named', (_, messages, places, images) => {
    const error = refusal(() => chat.encode(messages, images));
    expect(error.code).toBe('IMAGE_TOKEN_COUNT');
    expect(error.message.match(/\d+/g)?.slice(0, 2)).toEqual([String(places), String(images)]);
  });

  it.each(['<s>', 'a</s>b', 'pad: <pad>', '<unk>'])('%p in a text is refused: it would be read as a special token', (words) => {
    const inParts = refusal(() => chat.encode([user(text(words))], 0));
    expect(inParts.code).toBe('SPECIAL_TOKEN_IN_TEXT');
    expect(inParts.message).toContain(words.match(/<\/?\w+>/)?.[0] as string);
    expect(refusal(() => chat.encode([{ role: 'system', content: `<image>${words}` }], 1)).code).toBe('SPECIAL_TOKEN_IN_TEXT');
  });

  it('a text that can not fit is refused before tokens are made of it, which would hold up the process for minutes', () => {
    const long = 'a word or two and '.repeat(2_000_000);
    const begun = performance.now();
    expect(refusal(() => chat.encode([user(text(long))], 0)).code).toBe('CONTEXT_OVERFLOW');
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect(chat.encode([user(text(long.slice(0, 10_000)))], 0).length).toBeGreaterThan(1000); // what may fit is encoded
  });

  it.each(['<s', '< s >', '<S>', '<imag>', 'a < b > c', '<s<image>>'])('%p is text', (words) => {
    const places = words.split('<image>').length - 1;
    const ids = chat.encode([{ role: 'user', content: words }], places);
    expect(Array.from(ids).filter((id) => id === chat.tokenizer.token_to_id('<s>'))).toHaveLength(1);
  });

  it('no message at all is refused', () => {
    expect(refusal(() => chat.encode([], 0)).code).toBe('EMPTY_PROMPT');
  });

  it('a template that loses an image is found out', async () => {
    const losing = await chatOf({ ...tokenizerFiles('llama'), 'chat_template.jinja': "{{ messages[0].content[0].type == 'image' }}" });
    const error = refusal(() => losing.encode([user(IMAGE)], 1));
    expect(error.code).toBe('IMAGE_TOKEN_COUNT');
    expect(error.message).toContain('template');
  });
});

describe('templates', () => {
  it.each<[string, Files]>([
    ['chat_template.jinja', { 'chat_template.jinja': 'here', 'chat_template.json': { chat_template: 'no' } }],
    ['chat_template.json', { 'chat_template.json': { chat_template: 'here' }, 'tokenizer_config.json': { chat_template: 'no' } }],
    ['tokenizer_config.json', { 'tokenizer_config.json': { chat_template: 'here' } }],
    ['tokenizer_config.json, the one called default', { 'tokenizer_config.json': named('tool_use', 'no', 'default', 'here') }],
    ['tokenizer_config.json, the first of several', { 'tokenizer_config.json': named('rag', 'here', 'tool_use', 'no') }],
  ])('found in %s', async (_, files) => {
    const chat = await chatOf({ 'tokenizer.json': tokenizerFiles('llama')['tokenizer.json'], ...files });
    const ids = chat.encode([{ role: 'user', content: 'a question' }], 0);
    expect(chat.decode(ids)).toBe('here');
  });

  it("without one, turns are vicuna's, as LLaVA 1.5 was trained on", async () => {
    const chat = await chatOf({ ...tokenizerFiles('newer_llama'), 'chat_template.jinja': undefined });
    const messages: ChatMessage[] = [
      { role: 'system', content: 'You see.' },
      user(text('What is it?'), IMAGE),
      { role: 'assistant', content: 'a boat' },
      user(text('Sure?')),
    ];
    const ids = chat.encode(messages, 1);
    const written = 'You see. USER: <image>\nWhat is it? ASSISTANT: a boat</s>USER: Sure? ASSISTANT:';
    expect(Array.from(ids)).toEqual(Array.from(chat.tokenizer.encode(written).ids));
    expect(chat.tokenizer.id_to_token(ids[0] as number)).toBe('<s>');
  });

  it('a first token that the template writes is not doubled', async () => {
    const chat = await chatOf({ ...tokenizerFiles('llama'), 'chat_template.jinja': '{{ bos_token }}{{ messages[0].content }}' });
    const ids = Array.from(chat.encode([{ role: 'user', content: 'a' }], 0));
    expect(ids.filter((id) => id === 1)).toHaveLength(1);
  });

  it('special tokens may be written as objects in tokenizer_config.json', async () => {
    const settings = { eos_token: { content: '</s>', special: true }, bos_token: { content: '<s>' } };
    const template = '{{ bos_token }}a{{ eos_token }}';
    const chat = await chatOf({ ...tokenizerFiles('llama'), 'tokenizer_config.json': settings, 'chat_template.jinja': template });
    const ids = Array.from(chat.encode([{ role: 'user', content: 'q' }], 0));
    expect([ids[0], ids.at(-1)]).toEqual([1, 2]);
  });

  it('what a template refuses comes with its own words and the roles', async () => {
    const messages: ChatMessage[] = [
      { role: 'user', content: 'a' },
      { role: 'system', content: 'b' },
    ];
    const chat = await chatFor('chatml');
    const error = refusal(() => chat.encode(messages, 0));
    expect(error.code).toBe('CHAT_TEMPLATE_REFUSED');
    expect(error.message).toContain('A system turn comes first');
    expect(error.message).toContain('user, system');
  });

  it.each(['{% for m in messages %}', '{{ messages[ }}', '{% nonsense %}'])('%p can not be read: CHAT_TEMPLATE names the file', async (template) => {
    const error = await chatOf({ ...tokenizerFiles('llama'), 'chat_template.jinja': template }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ code: 'CHAT_TEMPLATE' });
    expect(String(error)).toContain('checkpoint/chat_template.jinja');
  });
});

describe('files', () => {
  it('without tokenizer.json there is no processor, and no error', async () => {
    expect(await loadChatProcessor(directoryOf({}), LANGUAGE_ALONE)).toBeUndefined();
  });

  it("an image token id that the tokenizer doesn't have is refused, by its number", async () => {
    const error = await chatOf(tokenizerFiles('llama'), llavaConfigOf(9999, 10000)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ code: 'IMAGE_TOKEN_UNKNOWN' });
    expect(String(error)).toContain('9999');
  });

  it.each<[string, Files]>([
    ['an object of another kind', { 'tokenizer.json': { a: 1 } }],
    ['a model that is not known', { 'tokenizer.json': { ...(tokenizerFiles('llama')['tokenizer.json'] as object), model: { type: 'Nonsense' } } }],
    ['a list', { 'tokenizer.json': [1] }],
  ])('tokenizer.json with %s gives TOKENIZER', async (_, files) => {
    await expect(loadChatProcessor(directoryOf(files), LANGUAGE_ALONE)).rejects.toMatchObject({ code: 'TOKENIZER' });
  });

  it.each(['null', '[]', '"text"'])('tokenizer_config.json that is %s is no crash of another kind', async (settings) => {
    const files = { ...tokenizerFiles('llama'), 'tokenizer_config.json': settings };
    const outcome = await chatOf(files).catch((reason: unknown) => reason);
    if (outcome instanceof Error) expect(outcome).toBeInstanceOf(ConfigError);
  });

  it('spaces before punctuation stay where the file says nothing, and for byte-pair merges whatever it says', async () => {
    for (const settings of [{}, { clean_up_tokenization_spaces: true }]) {
      const chat = await chatOf({ ...tokenizerFiles('llama'), 'tokenizer_config.json': settings });
      expect(chat.decode(chat.encodeText("so . really ? it 's"))).toBe("so . really ? it 's");
    }
  });

  it('a file that is no JSON is told apart from an absent one', async () => {
    await expect(loadChatProcessor(directoryOf({ 'tokenizer.json': '{' }), LANGUAGE_ALONE)).rejects.toMatchObject({ code: 'NOT_JSON' });
  });
});

function named(a: string, first: string, b: string, second: string): object {
  return {
    chat_template: [
      { name: a, template: first },
      { name: b, template: second },
    ],
  };
}
