import { createHash } from 'node:crypto';
import { access, readdir, readFile, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { z } from 'zod';
import { DataError } from '../../layers/errors';
import type { DataSet } from './data_set';
import { fileData } from './file_data';
import { type DataFiles, issuesOf, parseJson, type RawQuestion } from './formats/format';
import { FORMATS } from './formats/formats';

const MAPPING_NAME = 'vispruner-data.json';

const shared = z.looseObject({
  format: z.string(),
  name: z.string().optional(),
  suffix: z.string().optional(),
  maxNewTokens: z.int().min(1).optional(),
});

/**
 * Opens a data set by its mapping: a JSON file that says which format its files have and where they lie, or the directory with `vispruner-data.json`.
 * docs/eval.md has the formats. Nothing is downloaded.
 *
 * @throws DataError `DATA_MAPPING`, `DATA_FILE`, `DATA_ROW`, `DATA_IMAGE`, `DATA_EMPTY`
 */
export async function openDataSet(where: string, signal?: AbortSignal): Promise<DataSet> {
  const mapping = (await isDirectory(where)) ? path.join(where, MAPPING_NAME) : where;
  const hash = createHash('sha256');
  const files = filesIn(path.dirname(mapping), hash, signal);
  const json = parseJson(await files.text(path.basename(mapping)), mapping);
  const parsed = shared.safeParse(json);
  if (!parsed.success) throw new DataError('DATA_MAPPING', `${mapping}: ${issuesOf(parsed.error)}. docs/eval.md shows what a mapping has.`);
  const { format: name, name: title, suffix, maxNewTokens, ...fields } = parsed.data;
  const open = Object.hasOwn(FORMATS, name) ? FORMATS[name] : undefined;
  if (!open) throw new DataError('DATA_MAPPING', `${mapping}: "format" is "${name}". Use one of these: ${Object.keys(FORMATS).join(', ')}.`);
  const format = open(fields, mapping);
  const questions = await format.read(files);
  signal?.throwIfAborted();
  await checkImages(questions, path.dirname(mapping));
  return fileData({
    name: title ?? name,
    digest: hash.digest('hex').slice(0, 16),
    metric: format.metric,
    suffix: suffix ?? format.suffix,
    maxNewTokens: maxNewTokens ?? format.maxNewTokens,
    questions,
    image: (place) =>
      Promise.resolve('path' in place ? path.resolve(path.dirname(mapping), place.path) : new Uint8Array(Buffer.from(place.base64, 'base64'))),
  });
}

/** Everything that is read goes into the digest. */
function filesIn(folder: string, hash: ReturnType<typeof createHash>, signal: AbortSignal | undefined): DataFiles {
  return {
    async text(name) {
      const file = path.resolve(folder, name);
      const content = await attempt(readFile(file, { encoding: 'utf8', signal }), file, signal);
      hash.update(name).update(content);
      return content;
    },
    async list(name) {
      const directory = path.resolve(folder, name);
      return (await attempt(readdir(directory), directory, signal)).sort();
    },
  };
}

async function attempt<T>(work: Promise<T>, what: string, signal: AbortSignal | undefined): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    signal?.throwIfAborted();
    const { code } = cause as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'it is not there' : String(cause);
    throw new DataError('DATA_FILE', `${what} can't be read: ${reason}. Paths in a mapping are from its own folder.`, { cause });
  }
}

async function isDirectory(where: string): Promise<boolean> {
  return stat(where).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Open files that are looked at together. */
const TOGETHER = 64;

/** An image that is missing is better found now than after hours. @throws DataError `DATA_IMAGE` */
async function checkImages(questions: readonly RawQuestion[], folder: string): Promise<void> {
  const users = new Map(questions.flatMap(({ id, image }): [string, string][] => ('path' in image ? [[image.path, id]] : [])));
  const missing: string[] = [];
  const paths = [...users.keys()];
  for (let i = 0; i < paths.length; i += TOGETHER) {
    await Promise.all(paths.slice(i, i + TOGETHER).map((name) => access(path.resolve(folder, name)).catch(() => missing.push(name))));
  }
  const [first] = missing.sort();
  if (first === undefined) return;
  throw new DataError(
    'DATA_IMAGE',
    `${missing.length} of ${paths.length} images are not there; the first is ${path.resolve(folder, first)} of question "${users.get(first)}". Check where the mapping says that images lie.`,
  );
}
