import { randomUUID } from 'node:crypto';
import { copyFile, link, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { OutputError } from '../../layers/errors';
import { isOn } from './environment_node';

/** @throws OutputError `NO_SPACE`, `WRITE_FAILED` */
export async function makeFolders(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((cause: unknown) => {
    throw writeError(path, cause);
  });
}

/** Makes a file under another name beside it, then renames it: readers see the old one or the new one. @throws OutputError `NO_SPACE`, `WRITE_FAILED` */
export async function inPlace(file: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${file}.${randomUUID().slice(0, 8)}.tmp`;
  try {
    await make(temporary);
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw writeError(file, cause);
  }
}

/**
 * A second name for a blob: by a relative link, so that the cache can be moved. Where links are refused (Windows without developer mode, some shares,
 * `HF_HUB_DISABLE_SYMLINKS`) by a hard link, or else by a copy.
 */
export async function nameAgain(blob: string, path: string): Promise<void> {
  const ways = [() => link(blob, path), () => copyFile(blob, path)];
  if (!isOn(process.env.HF_HUB_DISABLE_SYMLINKS)) ways.unshift(() => symlink(relative(dirname(path), blob), path));
  let refused: unknown;
  for (const way of ways) {
    try {
      await way();
      return;
    } catch (cause) {
      refused = cause;
    }
  }
  throw refused;
}

/** Notes which commit a branch or tag is at; writes nothing where that is known, for the cache may be one that can only be read. */
export async function writeReference(file: string, commit: string): Promise<void> {
  if ((await readFile(file, 'utf8').catch(() => '')) === commit) return;
  await makeFolders(dirname(file));
  await inPlace(file, (temporary) => writeFile(temporary, commit));
}

/** The named error for what the file system refused. */
export function writeError(path: string, cause: unknown): OutputError {
  if ((cause as NodeJS.ErrnoException).code === 'ENOSPC') {
    return new OutputError(
      'NO_SPACE',
      `${path}: the disk is full. Make room, or give another folder (--cache-dir, HF_HUB_CACHE); the download goes on from there.`,
      { cause },
    );
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new OutputError('WRITE_FAILED', `${path} can't be written: ${reason}. Check the folder, its permissions and the free space.`, { cause });
}
