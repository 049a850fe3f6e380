import { CheckpointError, HubError } from '../../layers/errors';
import { INDEX_FILE, SINGLE_FILE } from '../../weights/checkpoint';
import { isConfiguration } from '../../weights/hub_files';
import type { HubFile } from './hub';

/** Weights in forms or under names that loading a model does not read. */
const OTHER_WEIGHTS = /\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|gguf|onnx)$/;

/** Which files of a model to fetch. */
export interface Selection {
  readonly files: readonly HubFile[];
  /** Whether `files` has an index, whose shards are to be fetched too. */
  readonly sharded: boolean;
}

/**
 * What a model is loaded from: its configurations, tokenizer and template, and `model.safetensors` or (where there is none, as in `openCheckpoint`) the
 * index of its shards.
 * @throws HubError `NO_CONFIG`, `NO_SAFETENSORS`
 */
export function selectModel(files: readonly HubFile[], where: string): Selection {
  const find = (path: string) => files.find((file) => file.path === path);
  if (!find('config.json')) {
    throw new HubError('NO_CONFIG', `${where}: has no config.json, so it is no model that could be loaded. --include fetches files of any kind.`);
  }
  const weights = find(SINGLE_FILE) ?? find(INDEX_FILE);
  if (!weights) {
    const others = files.filter(({ path }) => OTHER_WEIGHTS.test(path)).map(({ path }) => path);
    const has =
      others.length > 0 ? `its weights are ${others.slice(0, 4).join(', ')}${others.length > 4 ? ' and others' : ''}` : 'it has no weights at all';
    throw new HubError(
      'NO_SAFETENSORS',
      `${where}: has neither ${SINGLE_FILE} nor ${INDEX_FILE}; ${has}. Look for a revision with safetensors (often refs/pr/...), or write one with transformers' save_pretrained.`,
    );
  }
  return { files: [...files.filter(({ path }) => isConfiguration(path)), weights], sharded: weights.path === INDEX_FILE };
}

/**
 * The files whose path matches a pattern: `*` stands for any characters, also `/` (as in huggingface_hub), and `?` for one.
 * @throws HubError `NO_SUCH_FILES`
 */
export function selectMatching(files: readonly HubFile[], patterns: readonly string[], where: string): Selection {
  const expressions = patterns.map((pattern) => {
    const source = pattern
      .replace(/[\\^$.|+()[\]{}]/g, '\\$&')
      .replace(/\*/g, '.*')
      .replace(/\?/g, '.');
    return { pattern, expression: new RegExp(`^${source}$`, 's') };
  });
  for (const { pattern, expression } of expressions) {
    if (files.some(({ path }) => expression.test(path))) continue;
    const some = files.slice(0, 8).map(({ path }) => path);
    throw new HubError('NO_SUCH_FILES', `${where}: no file matches "${pattern}". It has ${some.join(', ')}${files.length > 8 ? ', …' : ''}.`);
  }
  return { files: files.filter(({ path }) => expressions.some(({ expression }) => expression.test(path))), sharded: false };
}

/**
 * The files of a list that an index names.
 * @throws CheckpointError `SHARD_MISSING`
 */
export function selectShards(files: readonly HubFile[], shards: readonly string[], where: string): HubFile[] {
  return shards.map((shard) => {
    const file = files.find(({ path }) => path === shard);
    if (file) return file;
    throw new CheckpointError('SHARD_MISSING', `${where}: ${INDEX_FILE} names "${shard}", which the repository does not have. Try another revision.`);
  });
}

/**
 * Refuses a path, out of a list that a server made, which would not lie in the folder that it is joined to, on any system.
 * @throws HubError `UNSAFE_FILE_NAME`
 */
export function checkPath(path: string, where: string): void {
  const parts = path.split('/');
  const bad = /[\p{Cc}\\:]/u.test(path) || parts.some((part) => part === '' || part === '.' || part === '..');
  if (bad)
    throw new HubError('UNSAFE_FILE_NAME', `${where}: lists a file ${JSON.stringify(path)}, whose name could leave its folder. Nothing was fetched.`);
}
