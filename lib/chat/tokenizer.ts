import { Tokenizer } from '@huggingface/tokenizers';
import { ConfigError } from '../../layers/errors';
import { type ByteDirectory, readJson, readJsonIfPresent } from '../../weights/byte_directory';

/** A tokenizer, and what tokenizer_config.json says beside it. */
export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Reads tokenizer.json and tokenizer_config.json; undefined where there is no tokenizer.json. @throws ConfigError `TOKENIZER` */
export async function loadTokenizer(directory: ByteDirectory, signal?: AbortSignal): Promise<LoadedTokenizer | undefined> {
  if (!(await directory.has('tokenizer.json', signal))) return undefined;
  const json = await readJson(directory, 'tokenizer.json', signal);
  const settings = ((await readJsonIfPresent(directory, 'tokenizer_config.json', signal)) ?? {}) as Record<string, unknown>;
  try {
    // transformers' rules: spaces before punctuation are cleaned up only where the file says so, and never for byte-pair merges.
    const cleanUp = settings.clean_up_tokenization_spaces === true && (json as { model?: { type?: unknown } }).model?.type !== 'BPE';
    const tokenizer = new Tokenizer(json as object, { ...settings, clean_up_tokenization_spaces: cleanUp });
    const { ids } = tokenizer.encode('a b'); // some damage shows only at work
    if (ids.length > 0) tokenizer.decode(ids);
    return { tokenizer, settings };
  } catch (cause) {
    throw new ConfigError(
      'TOKENIZER',
      `${directory.name}/tokenizer.json can't be used: ${String(cause)}. Get the file again, or save it with a current transformers.`,
      { cause },
    );
  }
}
