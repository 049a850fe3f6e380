import { createHash, randomUUID } from 'node:crypto';
import { readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

/**
 * The file that a blob is fetched into. A process writes into `<hash>.<owner>.incomplete`, which is its alone, and leaves it as `<hash>.incomplete` when
 * it ends before its time; the next one takes that over by renaming it, which of several only one can. So two pulls at once never write into one
 * file, without locks, which Node does not have and network file systems pretend to have.
 */
export interface Partial {
  readonly path: string;
  /** Leaves what there is for the next process. */
  release(): Promise<void>;
  discard(): Promise<void>;
  /** Says that its owner is alive, though nothing is written. */
  touch(): Promise<void>;
}

/** A file that was not written to for so long has no living owner; longer than any pause between two attempts. */
const ABANDONED_MS = 15 * 60_000;
const HOST: string = createHash('sha1').update(hostname()).digest('hex').slice(0, 8);

/** Takes over what there is of a blob, or begins with nothing: then there is no file yet at `path`. */
export async function claimPartial(blobs: string, hash: string): Promise<Partial> {
  const left = join(blobs, `${hash}.incomplete`);
  const path = join(blobs, `${hash}.${HOST}-${process.pid}-${randomUUID().slice(0, 8)}.incomplete`);
  for (const candidate of [left, ...(await abandoned(blobs, hash))]) {
    const taken = await rename(candidate, path).then(
      () => true,
      () => false, // it is not there, or another process was faster
    );
    if (taken) break;
  }
  const now = () => new Date();
  const touch = () => utimes(path, now(), now()).catch(() => {});
  await touch();
  return {
    path,
    touch,
    async release(): Promise<void> {
      const [own, other] = await Promise.all([path, left].map((file) => stat(file).catch(() => undefined)));
      if (own && own.size > (other?.size ?? 0)) await rename(path, left).catch(() => {});
      else await rm(path, { force: true });
    },
    discard: () => rm(path, { force: true }),
  };
}

/** Files of owners that were killed, and huggingface_hub's; the largest first. */
async function abandoned(blobs: string, hash: string): Promise<string[]> {
  const names = (await readdir(blobs)).filter((name) => name.startsWith(`${hash}.`) && name.endsWith('.incomplete') && name !== `${hash}.incomplete`);
  const found = await Promise.all(
    names.map(async (name) => {
      const path = join(blobs, name);
      const { size, mtimeMs } = await stat(path).catch(() => ({ size: 0, mtimeMs: Date.now() }));
      return { path, size, dead: ownerIsDead(name.slice(hash.length + 1)) || Date.now() - mtimeMs > ABANDONED_MS };
    }),
  );
  return found
    .filter(({ dead }) => dead)
    .sort((a, b) => b.size - a.size)
    .map(({ path }) => path);
}

/** Whether a file's owner was a process of this machine that is no more. */
function ownerIsDead(suffix: string): boolean {
  const [, host, pid] = /^([0-9a-f]{8})-(\d+)-/.exec(suffix) ?? [];
  if (host !== HOST) return false;
  try {
    process.kill(Number(pid), 0); // sends nothing
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
