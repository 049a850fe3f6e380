import { CheckpointError } from '../layers/errors';

/** What is set aside for an answer before any of it has come. */
const FIRST_CHUNK = 2 ** 20;

/** malloc puts large blocks 16 bytes beyond a page. This far on, bytes lie at a multiple of 64, where the native backend uses them without a copy. */
const ALIGNED = 48;

/**
 * Bytes at rest that can be read in pieces: a file, a URL with Range, a Blob, memory. Nothing is read before it is asked for, and a whole file is
 * never held in memory.
 */
export interface ByteSource {
  /** For error messages: the path, the URL, or what the caller called it. */
  readonly name: string;
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`, in an array of their own (aligned, never shared with a later read) unless the source is memory.
   * @throws CheckpointError `READ_PAST_END`, `FILE_SHRANK`, `FETCH_FAILED`; the signal's reason when it is aborted.
   */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** @throws CheckpointError `READ_PAST_END` */
export function checkRange(source: { readonly name: string; readonly size: number }, offset: number, length: number): void {
  const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (!valid || offset + length > source.size) {
    throw new CheckpointError(
      'READ_PAST_END',
      `${source.name}: bytes ${offset} to ${offset + length} were asked for, but it has ${source.size} bytes.`,
    );
  }
}

/** @throws CheckpointError `FILE_SHRANK` */
export function fileShrank(name: string, wanted: number, got: number): CheckpointError {
  return new CheckpointError(
    'FILE_SHRANK',
    `${name}: ${got} of ${wanted} bytes could be read where the file had them when it was opened. It was cut or replaced meanwhile: load it again.`,
  );
}

/** @throws CheckpointError `READ_TOO_LARGE` where JavaScript has no array of that length, or no memory for it */
export function allocate(name: string, length: number): Uint8Array {
  try {
    return new Uint8Array(new ArrayBuffer(length + ALIGNED), ALIGNED, length);
  } catch (cause) {
    throw new CheckpointError('READ_TOO_LARGE', `${name}: no memory for ${length} bytes at once. Split its tensors, or close other programs.`, {
      cause,
    });
  }
}

/** Bytes in memory; reads are views, not copies. */
export function memorySource(bytes: Uint8Array, name = 'memory'): ByteSource {
  const source: ByteSource = {
    name,
    size: bytes.byteLength,
    async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
      signal?.throwIfAborted();
      checkRange(source, offset, length);
      return bytes.subarray(offset, offset + length);
    },
    async close(): Promise<void> {},
  };
  return source;
}

/** A Blob or a File that a page was given (`<input type="file">`, drag and drop). */
export function blobSource(blob: Blob, name?: string): ByteSource {
  const fileName = 'name' in blob && typeof blob.name === 'string' ? blob.name : 'blob';
  const source: ByteSource = {
    name: name ?? fileName,
    size: blob.size,
    async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
      signal?.throwIfAborted();
      checkRange(source, offset, length);
      const bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      signal?.throwIfAborted();
      if (bytes.byteLength !== length) throw fileShrank(source.name, length, bytes.byteLength);
      return bytes;
    },
    async close(): Promise<void> {},
  };
  return source;
}

/**
 * The body of an answer that must have `length` bytes. Memory grows with what arrives, not with what was promised, and what arrives beyond is not read.
 * @throws CheckpointError `FETCH_FAILED`, `FILE_SHRANK`
 */
async function readBody(response: Response, length: number, url: string, signal?: AbortSignal): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  let bytes = allocate(url, Math.min(length, FIRST_CHUNK));
  let done = 0;
  for (;;) {
    const { value: chunk } = (await reader?.read().catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw new CheckpointError('FETCH_FAILED', `${url}: the answer broke off after ${done} of ${length} bytes (${String(cause)}). Try again.`, {
        cause,
      });
    })) ?? { value: undefined };
    if (!chunk) break;
    if (done + chunk.byteLength > length) {
      await reader?.cancel().catch(() => {}); // it has failed already
      throw new CheckpointError('FETCH_FAILED', `${url}: the server sent more than the ${length} bytes that were asked for. Load from another host.`);
    }
    if (done + chunk.byteLength > bytes.byteLength) {
      const grown = allocate(url, Math.min(length, Math.max(2 * bytes.byteLength, done + chunk.byteLength)));
      grown.set(bytes);
      bytes = grown;
    }
    bytes.set(chunk, done);
    done += chunk.byteLength;
  }
  if (done !== length) throw fileShrank(url, length, done);
  return bytes;
}

export interface UrlSourceOptions {
  readonly signal?: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
  /** `globalThis.fetch` unless given. */
  readonly fetch?: typeof fetch;
}

/**
 * A URL read by HTTP ranges. The first request asks for one byte and learns the size from `Content-Range`.
 * @throws CheckpointError `RANGE_IGNORED` when the server answers with the whole file, which may be many gigabytes; `FETCH_FAILED`.
 */
export async function openUrl(url: string, options: UrlSourceOptions = {}): Promise<ByteSource> {
  const request = options.fetch ?? globalThis.fetch;

  const getRange = async (offset: number, length: number, signal?: AbortSignal): Promise<{ bytes: Uint8Array; total: number }> => {
    const range = `bytes=${offset}-${offset + length - 1}`;
    let response: Response;
    try {
      response = await request(url, { headers: { ...options.headers, Range: range }, signal });
    } catch (cause) {
      signal?.throwIfAborted();
      throw new CheckpointError('FETCH_FAILED', `${url}: the request failed (${String(cause)}). Check the address, the network and CORS.`, { cause });
    }
    if (response.status !== 206) {
      await response.body?.cancel();
      if (response.ok) {
        throw new CheckpointError(
          'RANGE_IGNORED',
          `${url}: the server ignored "Range: ${range}" and answered ${response.status} with the whole file. Serve it from a host that supports range requests.`,
        );
      }
      throw new CheckpointError('FETCH_FAILED', `${url}: the server answered ${response.status} ${response.statusText} to "Range: ${range}".`);
    }
    const [, first, last, all] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '') ?? [];
    const total = Number(all);
    if (Number(first) !== offset || Number(last) >= offset + length || !Number.isSafeInteger(total)) {
      await response.body?.cancel();
      throw new CheckpointError(
        'FETCH_FAILED',
        `${url}: "Range: ${range}" was answered with "Content-Range: ${response.headers.get('Content-Range')}", which names another part or no total size. If it is another origin, it must expose that header.`,
      );
    }
    return { bytes: await readBody(response, length, url, signal), total };
  };

  const size = (await getRange(0, 1, options.signal)).total;
  const source: ByteSource = {
    name: url,
    size,
    async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
      signal?.throwIfAborted();
      checkRange(source, offset, length);
      if (length === 0) return new Uint8Array(0);
      const { bytes, total } = await getRange(offset, length, signal);
      if (total !== size) throw fileShrank(url, size, total);
      return bytes;
    },
    async close(): Promise<void> {},
  };
  return source;
}
