import { CheckpointError } from '../layers/errors';
import { type ByteDirectory, readText } from './byte_directory';
import { weightFiles } from './checkpoint';
import { safePath } from './checkpoint_index';
import { sha256 } from './sha256_node';

/** What coreutils' `sha256sum *` writes and `sha256sum --check` reads: a file of the directory a line. */
export const CHECKSUMS_FILE = 'SHA256SUMS';

export interface VerifyOptions {
  readonly progress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

/**
 * Compares files of a checkpoint with their SHA-256: all that `SHA256SUMS` lists, or, in a directory that knows checksums of its own (a Hugging Face
 * cache names its large files by them), the weights.
 *
 * @returns the files that were compared, all files of weights among them
 * @throws CheckpointError `CHECKSUM_MISMATCH` with every file that differs, `NO_CHECKSUMS`, `CHECKSUMS_FORMAT`, `SHARD_PATH`, `FILE_NOT_FOUND`; the
 * signal's reason
 */
export async function verifyChecksums(directory: ByteDirectory, options: VerifyOptions = {}): Promise<readonly string[]> {
  const { progress, signal } = options;
  const expected = await expectedChecksums(directory, signal);
  const wrong: string[] = [];
  const sizes = await Promise.all([...expected.keys()].map((file) => sizeOf(directory, file, signal)));
  const totalBytes = sizes.reduce((sum, size) => sum + size, 0);
  let bytes = 0;
  for (const [file, checksum] of expected) {
    const source = await directory.open(file, signal);
    try {
      const found = await sha256(source, {
        signal,
        progress: (step) => {
          bytes += step;
          progress?.({ bytes, totalBytes });
        },
      });
      if (found !== checksum) wrong.push(`${file} has ${found} and should have ${checksum}`);
    } finally {
      await source.close();
    }
  }
  if (wrong.length === 0) return [...expected.keys()];
  throw new CheckpointError(
    'CHECKSUM_MISMATCH',
    `${directory.name}: ${wrong.length} of ${expected.size} file(s) differ from their SHA-256: ${wrong.join('; ')}. They were changed or damaged: get them again.`,
  );
}

async function sizeOf(directory: ByteDirectory, file: string, signal?: AbortSignal): Promise<number> {
  const source = await directory.open(file, signal);
  await source.close();
  return source.size;
}

async function expectedChecksums(directory: ByteDirectory, signal?: AbortSignal): Promise<ReadonlyMap<string, string>> {
  const weights = await weightFiles(directory, signal);
  const listed = await directory.has(CHECKSUMS_FILE, signal);
  const known = listed
    ? parseChecksums(await readText(directory, CHECKSUMS_FILE, signal), `${directory.name}/${CHECKSUMS_FILE}`)
    : await ownChecksums(directory, weights);
  const unknown = weights.filter((file) => !known.has(file));
  if (unknown.length === 0) return known;
  throw new CheckpointError(
    'NO_CHECKSUMS',
    `${directory.name}: ${listed ? `its ${CHECKSUMS_FILE} does not list` : `has no ${CHECKSUMS_FILE} to compare with for`} ${unknown.join(', ')}. ` +
      `Where you trust the files, write it: sha256sum * > ${CHECKSUMS_FILE}`,
  );
}

async function ownChecksums(directory: ByteDirectory, files: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const known = new Map<string, string>();
  for (const file of files) {
    const checksum = await directory.checksum?.(file);
    if (checksum !== undefined) known.set(file, checksum);
  }
  return known;
}

/**
 * The lines of `SHA256SUMS`: 64 hexadecimal digits, a space, a space or an asterisk, a file of the directory.
 * @throws CheckpointError `CHECKSUMS_FORMAT`, `SHARD_PATH`
 */
export function parseChecksums(text: string, where: string): ReadonlyMap<string, string> {
  const checksums = new Map<string, string>();
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line === '') continue;
    const [, checksum, file] = /^([0-9a-f]{64}) [ *](.+)$/i.exec(line) ?? [];
    if (checksum === undefined || file === undefined || checksums.has(file)) {
      throw new CheckpointError(
        'CHECKSUMS_FORMAT',
        `${where}: line ${i + 1} is ${JSON.stringify(line.slice(0, 120))}; it must be a SHA-256 in 64 digits, two spaces and the name of a file, each file once. Write it with sha256sum.`,
      );
    }
    checksums.set(safePath(file, where), checksum.toLowerCase());
  }
  if (checksums.size > 0) return checksums;
  throw new CheckpointError('CHECKSUMS_FORMAT', `${where}: is empty. Write it with sha256sum.`);
}

/** The lines for `files` of a directory, in their order. */
export async function formatChecksums(directory: ByteDirectory, files: readonly string[], signal?: AbortSignal): Promise<string> {
  const lines: string[] = [];
  for (const file of files) {
    const source = await directory.open(file, signal);
    try {
      lines.push(`${await sha256(source, { signal })}  ${file}\n`);
    } finally {
      await source.close();
    }
  }
  return lines.join('');
}
