import { type FileHandle, open } from 'node:fs/promises';
import { CheckpointError } from '../layers/errors';
import { allocate, type ByteSource, checkRange, fileShrank } from './byte_source';

/** Bytes read between two looks at the AbortSignal: an eighth of a second where memory that was never touched before comes slowest (measured). */
const CHUNK = 16 * 2 ** 20;

/**
 * A file, by positional reads.
 * @throws CheckpointError `FILE_NOT_FOUND`, `IS_DIRECTORY`, `PERMISSION_DENIED`, `FILE_UNREADABLE`
 */
export async function openFile(path: string): Promise<ByteSource> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (cause) {
    throw fileError(path, cause);
  }
  const stat = await handle.stat();
  if (stat.isDirectory()) {
    await handle.close();
    throw new CheckpointError('IS_DIRECTORY', `${path}: is a directory, not a file. Name the file in it.`);
  }
  let closed = false;
  const source: ByteSource = {
    name: path,
    size: stat.size,
    async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
      checkRange(source, offset, length);
      const bytes = allocate(path, length);
      let done = 0;
      while (done < length) {
        signal?.throwIfAborted();
        const { bytesRead } = await handle.read(bytes, done, Math.min(CHUNK, length - done), offset + done);
        if (bytesRead === 0) throw fileShrank(path, length, done);
        done += bytesRead;
      }
      signal?.throwIfAborted();
      return bytes;
    },
    async close(): Promise<void> {
      if (closed) return;
      closed = true;
      await handle.close();
    },
  };
  return source;
}

/** The named error for what the file system refused. */
export function fileError(path: string, cause: unknown): CheckpointError {
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new CheckpointError('FILE_NOT_FOUND', `${path}: there is no such file. Check the path, and that the download is complete.`, { cause });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new CheckpointError('PERMISSION_DENIED', `${path}: this user may not read it. Change its permissions (chmod u+r).`, { cause });
  }
  if (code === 'EISDIR') return new CheckpointError('IS_DIRECTORY', `${path}: is a directory, not a file. Name the file in it.`, { cause });
  return new CheckpointError('FILE_UNREADABLE', `${path}: can't be read (${String(cause)}).`, { cause });
}
