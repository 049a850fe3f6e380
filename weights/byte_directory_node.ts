import { access, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CheckpointError } from '../layers/errors';
import type { ByteDirectory } from './byte_directory';
import type { ByteSource } from './byte_source';
import { fileError, openFile } from './byte_source_node';

/**
 * A folder on disk.
 * @throws CheckpointError `FILE_NOT_FOUND`, `NOT_A_DIRECTORY`, `PERMISSION_DENIED`
 */
export async function openDirectory(path: string): Promise<ByteDirectory> {
  const found = await stat(path).catch((cause: unknown) => {
    throw fileError(path, cause);
  });
  if (!found.isDirectory()) {
    throw new CheckpointError('NOT_A_DIRECTORY', `${path}: is a file. Name the directory that holds config.json and the weights.`);
  }
  return {
    name: path,
    open(file: string): Promise<ByteSource> {
      return openFile(join(path, file));
    },
    async has(file: string): Promise<boolean> {
      return access(join(path, file)).then(
        () => true,
        () => false,
      );
    },
    /** A Hugging Face cache keeps contents under `blobs`, large files by their SHA-256, and links to them. */
    async checksum(file: string): Promise<string | undefined> {
      const target = await realpath(join(path, file)).catch(() => '');
      const name = basename(target);
      return basename(dirname(target)) === 'blobs' && /^[0-9a-f]{64}$/.test(name) ? name : undefined;
    },
  };
}
