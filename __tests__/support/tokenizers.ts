import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ChatProcessor, loadChatProcessor } from '../../lib/chat';
import { type ModelConfig, parseConfig } from '../../lib/config';
import { buildProcessorFiles, IMAGE, tokenId, VOCABULARY } from '../../lib/scenes';
import { type ByteDirectory, memoryDirectory } from '../../weights/byte_directory';

const FIXTURES = join(__dirname, '../fixtures/tokenizers');

/** Three kinds of tokenizer; `newer_llama` is `llama` as newer conversions have it: a space is put before the text alone, not after each special token. */
export const KINDS = ['llama', 'newer_llama', 'chatml'] as const;
export type Kind = (typeof KINDS)[number];

/** A file of a directory: text, or JSON; undefined for one that is not there. */
export type Files = Readonly<Record<string, string | object | undefined>>;

export function readTokenizerFixture<T>(file: string): T {
  return JSON.parse(readFileSync(join(FIXTURES, file), 'utf8')) as T;
}

/** Files of a recorded tokenizer. */
export function tokenizerFiles(kind: Kind): Files {
  const folder = kind === 'chatml' ? 'chatml' : 'llama';
  const tokenizer = readTokenizerFixture<object>(`${folder}/tokenizer.json`);
  const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false };
  return {
    'tokenizer.json': kind === 'newer_llama' ? { ...tokenizer, normalizer: null, pre_tokenizer: metaspace } : tokenizer,
    'tokenizer_config.json': readTokenizerFixture<object>(`${folder}/tokenizer_config.json`),
    'chat_template.jinja': readFileSync(join(FIXTURES, folder, 'chat_template.jinja'), 'utf8'),
  };
}

export function directoryOf(files: Files, name = 'memory'): ByteDirectory {
  const present = Object.entries(files).filter(([, content]) => content !== undefined);
  return memoryDirectory(new Map(present.map(([file, content]) => [file, bytesOf(content as string | object)])), name);
}

export function bytesOf(content: string | object): Uint8Array {
  return content instanceof Uint8Array ? content : new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content));
}

/** The chat processor of a LLaVA (or of a language model alone) with these files. */
export async function chatOf(files: Files, config: ModelConfig = llavaConfig(files)): Promise<ChatProcessor> {
  const chat = await loadChatProcessor(directoryOf(files, 'checkpoint'), config);
  if (!chat) throw new Error('there is no tokenizer.json');
  return chat;
}

export function chatFor(kind: Kind): Promise<ChatProcessor> {
  return chatOf(tokenizerFiles(kind));
}

/** The shipped model's tokenizer. */
export function scenesChat(): Promise<ChatProcessor> {
  return chatOf({ ...buildProcessorFiles() }, llavaConfigOf(tokenId(IMAGE), VOCABULARY.length));
}

export const LANGUAGE_ALONE: ModelConfig = parseConfig({ model_type: 'llama', vocab_size: 500 }, 'config.json');

export function llavaConfigOf(imageToken: number, vocabulary: number): ModelConfig {
  return parseConfig(
    { model_type: 'llava', image_token_index: imageToken, vision_config: {}, text_config: { vocab_size: vocabulary } },
    'config.json',
  );
}

function llavaConfig(files: Files): ModelConfig {
  const { added_tokens: added } = files['tokenizer.json'] as { added_tokens: { id: number; content: string }[] };
  return llavaConfigOf(added.find(({ content }) => content === '<image>')?.id as number, 1000);
}
