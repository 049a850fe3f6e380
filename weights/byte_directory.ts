import { CheckpointError } from '../layers/errors';
import { type ByteSource, blobSource, memorySource, openUrl, type UrlSourceOptions } from './byte_source';

/** Files by name: a folder on disk, a base URL, or what a page was given. */
export interface ByteDirectory {
  /** For error messages: the path or the URL. */
  readonly name: string;
  /** @throws CheckpointError `FILE_NOT_FOUND` and what else opening can throw */
  open(file: string, signal?: AbortSignal): Promise<ByteSource>;
  has(file: string, signal?: AbortSignal): Promise<boolean>;
  /** The SHA-256 that a file should have (64 hexadecimal digits), where the directory itself says so. */
  checksum?(file: string): Promise<string | undefined>;
}

/** Files in memory or given to a page as Blobs, by their names. */
export function memoryDirectory(files: ReadonlyMap<string, Uint8Array | Blob>, name = 'memory'): ByteDirectory {
  return {
    name,
    async open(file: string): Promise<ByteSource> {
      const content = files.get(file);
      if (!content)
        throw new CheckpointError('FILE_NOT_FOUND', `${name}: there is no file "${file}". Given: ${[...files.keys()].join(', ') || 'none'}.`);
      return content instanceof Uint8Array ? memorySource(content, `${name}/${file}`) : blobSource(content, `${name}/${file}`);
    },
    async has(file: string): Promise<boolean> {
      return files.has(file);
    },
  };
}

/** Files below a URL, which must answer range requests. */
export function urlDirectory(base: string, options: UrlSourceOptions = {}): ByteDirectory {
  const root = base.endsWith('/') ? base : `${base}/`;
  const request = options.fetch ?? globalThis.fetch;
  return {
    name: base,
    open(file: string, signal?: AbortSignal): Promise<ByteSource> {
      return openUrl(root + encodePath(file), { ...options, signal: signal ?? options.signal });
    },
    async has(file: string, signal?: AbortSignal): Promise<boolean> {
      const url = root + encodePath(file);
      try {
        return (await request(url, { method: 'HEAD', headers: options.headers, signal: signal ?? options.signal })).ok;
      } catch (cause) {
        signal?.throwIfAborted();
        throw new CheckpointError('FETCH_FAILED', `${url}: the request failed (${String(cause)}). Check the address, the network and CORS.`, {
          cause,
        });
      }
    },
  };
}

/** A name is a path and nothing else: in it, "?", "#" and "%2e%2e" are characters like others. */
function encodePath(file: string): string {
  return file.split('/').map(encodeURIComponent).join('/');
}

/** Bytes of a text that are still read: the largest tokenizers have some 40 MB. */
const MAX_TEXT = 2 ** 28;

/**
 * A whole small file as text: configurations, tokenizers, indexes.
 * @throws CheckpointError `FILE_NOT_FOUND`, `NOT_UTF8`, `TEXT_TOO_LARGE`
 */
export async function readText(directory: ByteDirectory, file: string, signal?: AbortSignal): Promise<string> {
  const source = await directory.open(file, signal);
  try {
    if (source.size > MAX_TEXT) {
      throw new CheckpointError(
        'TEXT_TOO_LARGE',
        `${source.name}: has ${source.size} bytes; a text of a checkpoint has at most ${MAX_TEXT}. It is another file than its name says: get it again.`,
      );
    }
    const bytes = await source.read(0, source.size, signal);
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch (cause) {
      throw new CheckpointError('NOT_UTF8', `${source.name}: is not UTF-8 text. Get it again.`, { cause });
    }
  } finally {
    await source.close();
  }
}

/**
 * A JSON file, or undefined where the directory has none of that name.
 * @throws CheckpointError `NOT_JSON`
 */
export async function readJsonIfPresent(directory: ByteDirectory, file: string, signal?: AbortSignal): Promise<unknown> {
  return (await directory.has(file, signal)) ? readJson(directory, file, signal) : undefined;
}

/** @throws CheckpointError `FILE_NOT_FOUND`, `NOT_JSON` */
export async function readJson(directory: ByteDirectory, file: string, signal?: AbortSignal): Promise<unknown> {
  const text = await readText(directory, file, signal);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError('NOT_JSON', `${directory.name}/${file}: is not JSON (${(cause as Error).message}). Get it again.`, { cause });
  }
}
