import { readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OutputError } from '../../layers/errors';
import { inPlace, makeFolders, nameAgain, writeReference } from './cache_files_node';
import type { Hub, HubFile } from './hub';
import { fetchBlob } from './transfer_node';

export interface SnapshotOptions {
  readonly retries: number;
  readonly signal: AbortSignal | undefined;
  /** Fetch again what is there. */
  readonly force: boolean;
  readonly progress: ((progress: { readonly file: string; readonly bytes: number; readonly totalBytes: number }) => void) | undefined;
}

/** Files fetched at a time. */
const AT_ONCE = 3;

/** One commit of a model on its way into the cache: first the blobs, each whole when it appears, then their names, then what points to the commit. */
export class Snapshot {
  readonly directory: string;
  readonly files: HubFile[] = [];
  /** Hashes of the blobs that were not there. */
  readonly fetched: Set<string> = new Set();
  private readonly blobs: string;
  private readonly done = new Map<string, number>();

  constructor(
    private readonly folder: string,
    private readonly hub: Hub,
    private readonly commit: string,
    private readonly options: SnapshotOptions,
  ) {
    this.directory = join(folder, 'snapshots', commit);
    this.blobs = join(folder, 'blobs');
  }

  /** Gets the contents of files on disk. @throws what `fetchBlob` throws, when all that was under way is at rest */
  async fetch(files: readonly HubFile[]): Promise<void> {
    await makeFolders(this.blobs);
    this.files.push(...files);
    const missing = new Map<string, HubFile>(); // two files of one content are one blob
    for (const file of files) {
      if (!this.options.force && (await this.find(file)) !== undefined) this.note(file, file.size);
      else missing.set(file.hash, file);
    }
    const queue = [...missing.values()];
    await this.checkSpace(queue);

    const stop = new AbortController(); // what fails ends the others
    const signal = this.options.signal ? AbortSignal.any([this.options.signal, stop.signal]) : stop.signal;
    const worker = async (): Promise<void> => {
      for (let file = queue.shift(); file; file = queue.shift()) {
        await this.fetchOne(file, signal).catch((error: unknown) => {
          stop.abort(error); // the first one stays the reason
          throw error;
        });
      }
    };
    await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, queue.length) }, worker));
    signal.throwIfAborted();
  }

  /** Where the contents of a file are that is there. */
  async pathOf(file: HubFile): Promise<string> {
    return (await this.find(file)) ?? join(this.blobs, file.hash);
  }

  /** Gives the files their names. @throws OutputError `NO_SPACE`, `WRITE_FAILED` */
  async link(): Promise<void> {
    for (const file of this.files) {
      const target = this.named(file);
      if (!this.fetched.has(file.hash) && (await hasSize(target, file.size))) continue;
      await makeFolders(dirname(target));
      await inPlace(target, (temporary) => nameAgain(join(this.blobs, file.hash), temporary));
    }
  }

  /** Says that a revision is at this commit. @throws OutputError `NO_SPACE`, `WRITE_FAILED` */
  async refer(revision: string): Promise<void> {
    if (revision !== this.commit) await writeReference(join(this.folder, 'refs', revision), this.commit);
  }

  private async fetchOne(file: HubFile, signal: AbortSignal): Promise<void> {
    await fetchBlob(file, this.blobs, {
      open: (offset) => this.hub.open(file.path, this.commit, offset, signal),
      retries: this.options.retries,
      signal,
      progress: (bytes) => this.note(file, bytes),
    });
    this.fetched.add(file.hash);
  }

  private note(file: HubFile, bytes: number): void {
    this.done.set(file.hash, bytes);
    const sizes = new Map(this.files.map(({ hash, size }) => [hash, size]));
    this.options.progress?.({ file: file.path, bytes: sum(this.done.values()), totalBytes: sum(sizes.values()) });
  }

  /** Where a file's contents are, if they are: among the blobs, or (from where links are refused) only in the snapshot. */
  private async find(file: HubFile): Promise<string | undefined> {
    for (const path of [join(this.blobs, file.hash), this.named(file)]) {
      if (await hasSize(path, file.size)) return path;
    }
    return undefined;
  }

  private named({ path }: HubFile): string {
    return join(this.directory, ...path.split('/'));
  }

  /** @throws OutputError `NO_SPACE` before anything is fetched that would not fit */
  private async checkSpace(files: readonly HubFile[]): Promise<void> {
    const { bavail, bsize, blocks } = await statfs(this.blobs);
    if (blocks === 0) return; // a file system that does not tell
    const begun = (await readdir(this.blobs)).filter((name) => name.endsWith('.incomplete'));
    const there = await Promise.all(
      begun.map(async (name) => ({ name, size: (await stat(join(this.blobs, name)).catch(() => undefined))?.size ?? 0 })),
    );
    const left = ({ hash, size }: HubFile) => {
      const parts = there.filter(({ name }) => name.startsWith(hash)).map((part) => part.size);
      return Math.max(0, size - Math.max(0, ...parts));
    };
    const needed = sum(files.map(left));
    if (needed <= bavail * bsize) return;
    const [wants, has] = [needed, bavail * bsize].map((bytes) => `${(bytes / 1e9).toFixed(2)} GB`);
    throw new OutputError(
      'NO_SPACE',
      `${this.blobs}: ${wants} are to be fetched, and ${has} are free. Make room, or give another folder (--cache-dir, HF_HUB_CACHE).`,
    );
  }
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

async function hasSize(path: string, size: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.size === size;
}
