import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError } from '../../layers/errors';
import { writeError } from './cache_files_node';
import type { HubResponse } from './http';
import type { HubFile } from './hub';
import { claimPartial } from './partial_node';
import { Transient, withRetries } from './retry';

export interface TransferOptions {
  /** The bytes of the file from an offset on. */
  readonly open: (offset: number) => Promise<HubResponse>;
  readonly retries: number;
  readonly signal: AbortSignal;
  /** Called with the bytes that are on disk; fewer than before where a server began anew. */
  readonly progress: (bytes: number) => void;
}

/**
 * Fetches a file into the folder of blobs, under the name of its hash, when all of it is there and hashes to that. What a connection that breaks, or an
 * abort, leaves goes on from there: here, and in the next process.
 * @throws HubError `HUB_CHECKSUM`, `HUB_WRONG_SIZE` (what came is removed), and what a request throws; OutputError `NO_SPACE`, `WRITE_FAILED`; the
 * signal's reason when it is aborted
 */
export async function fetchBlob(file: HubFile, blobs: string, options: TransferOptions): Promise<void> {
  const partial = await claimPartial(blobs, file.hash).catch((cause: unknown) => {
    throw writeError(blobs, cause);
  });
  let handle: FileHandle | undefined;
  try {
    handle = await open(partial.path, 'a+'); // writes go to the end
    const write = new BlobWriter(file, handle, options.progress);
    const resumed = await write.resume(options.signal);
    await receive(write, partial.touch, options);
    if (!write.matches() && resumed) {
      // What was there before may have been damaged; what is new can't have been.
      await write.restart();
      await receive(write, partial.touch, options);
    }
    if (!write.matches()) {
      throw new HubError(
        'HUB_CHECKSUM',
        `${file.path}: what came does not hash to ${file.hash}, which the hub lists. It was removed; try again, and then ask whoever runs the hub or the proxy.`,
      );
    }
    await handle.sync();
    await handle.close();
    handle = undefined;
    await rename(partial.path, join(blobs, file.hash));
  } catch (error) {
    await handle?.close().catch(() => {});
    const useless = error instanceof HubError && (error.code === 'HUB_CHECKSUM' || error.code === 'HUB_WRONG_SIZE');
    await (useless ? partial.discard() : partial.release());
    if (isSystemError(error)) throw writeError(partial.path, error);
    throw error;
  }
}

/** Reads from the hub until the file is whole. */
async function receive(write: BlobWriter, touch: () => Promise<void>, { open: from, retries, signal }: TransferOptions): Promise<void> {
  const { file } = write;
  let furthest = write.size;
  await withRetries(
    async (progressed) => {
      if (write.size === file.size) return;
      await touch(); // a pause may lie before this
      const answer = await from(write.size);
      try {
        if (answer.response.status === 416) throw wrongSize(file, `fewer than ${write.size + 1} bytes`);
        if (write.size > 0 && !continues(answer.response, write.size, file.size)) await write.restart();
        for await (const piece of answer.pieces()) {
          if (write.size + piece.byteLength > file.size) throw wrongSize(file, 'more');
          await write.append(piece);
          if (write.size <= furthest) continue;
          furthest = write.size;
          progressed();
        }
      } finally {
        await answer.cancel();
      }
      if (write.size < file.size) throw new Transient(wrongSize(file, `${write.size} bytes`));
    },
    { retries, signal },
  );
}

/** Whether a server goes on from where it was asked to; many send the whole file instead. */
function continues(response: Response, offset: number, size: number): boolean {
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('Content-Range') ?? '') ?? [];
  return (
    response.status === 206 && Number(start) === offset && (total === '*' || Number(total) === size) && !response.headers.has('Content-Encoding')
  );
}

function wrongSize(file: HubFile, came: string): HubError {
  return new HubError(
    'HUB_WRONG_SIZE',
    `${file.path}: the hub lists ${file.size} bytes and sends ${came}. Try again, and then ask whoever runs the hub or the proxy.`,
  );
}

/** A file on disk with the hash of what is in it so far. */
class BlobWriter {
  size = 0;
  private hash: Hash;

  constructor(
    readonly file: HubFile,
    private readonly handle: FileHandle,
    private readonly progress: (bytes: number) => void,
  ) {
    this.hash = begin(file);
  }

  /** Takes up what the file has. @returns whether it has anything */
  async resume(signal: AbortSignal): Promise<boolean> {
    const { size } = await this.handle.stat();
    if (size > this.file.size) await this.restart();
    else if (size > 0) {
      const buffer = Buffer.alloc(Math.min(size, 2 ** 20));
      while (this.size < size) {
        signal.throwIfAborted();
        const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, this.size);
        if (bytesRead === 0) break;
        this.hash.update(buffer.subarray(0, bytesRead));
        this.size += bytesRead;
      }
      this.progress(this.size);
    }
    return this.size > 0;
  }

  async restart(): Promise<void> {
    await this.handle.truncate(0);
    this.size = 0;
    this.hash = begin(this.file);
    this.progress(0);
  }

  async append(piece: Uint8Array): Promise<void> {
    await this.handle.appendFile(piece);
    this.hash.update(piece);
    this.size += piece.byteLength;
    this.progress(this.size);
  }

  matches(): boolean {
    return this.hash.copy().digest('hex') === this.file.hash;
  }
}

/** SHA-256 of the bytes, or the SHA-1 of what git stores: a header, then the bytes. */
function begin({ hash, size }: HubFile): Hash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}
