import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { type PullOptions, type PullReport, pullModel } from '../../lib/hub/pull_node';
import { type FakeFile, FakeHub, type FakeModel, type Fault, hashOf, largeFile, type Seen, smallFile } from './fake_hub';

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';
export const NAME = 'acme/plain';
export const WEIGHTS = 'model.safetensors';

/** A hub with one model, and an empty cache to pull it into. */
export class PullCase {
  private constructor(
    readonly hub: FakeHub,
    readonly cache: string,
  ) {}

  static async start(): Promise<PullCase> {
    return new PullCase(await FakeHub.start(), await mkdtemp(join(tmpdir(), 'vispruner-hub-')));
  }

  /** Puts a model on the hub. */
  offer(files: Readonly<Record<string, FakeFile>> = plainFiles(), more: Partial<FakeModel> = {}): void {
    this.hub.models.set(NAME, { files, commit: COMMIT, references: ['main'], ...more });
  }

  /** The first `times` requests that `where` picks are answered by `act`. */
  fault(where: (seen: Seen) => boolean, times: number, act: (...request: Parameters<Fault>) => void): void {
    let left = times;
    this.hub.faults.push((...request) => {
      if (left === 0 || !where(request[0])) return false;
      left--;
      act(...request);
      return true;
    });
  }

  pull(options: PullOptions = {}): Promise<PullReport> {
    return pullModel(NAME, { endpoint: this.hub.endpoint, cacheDir: this.cache, token: '', retries: 1, ...options });
  }

  /** What a pull fails with: its code and its message. */
  async failure(options: PullOptions = {}): Promise<{ code: unknown; message: string }> {
    const error = await this.pull(options).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof Error)) throw new Error(`expected a failure, got ${String(error)}`);
    return { code: (error as { code?: unknown }).code, message: error.message };
  }

  /** Contents by path, as they are found through the snapshot's links. */
  read(path: string): Promise<Buffer> {
    return readFile(join(this.folder, 'snapshots', COMMIT, path));
  }

  /** Names among the blobs. */
  async blobs(): Promise<string[]> {
    return (await readdir(join(this.folder, 'blobs')).catch(() => [])).sort();
  }

  /** Where the model is cached. */
  get folder(): string {
    return join(this.cache, 'models--acme--plain');
  }

  async end(): Promise<void> {
    await this.hub.close();
    await rm(this.cache, { recursive: true, force: true });
  }
}

/** 300 kB in which no two stretches are alike, so that bytes in the wrong place are seen. */
export const CONTENT: Buffer = Buffer.from(Uint32Array.from({ length: 75_000 }, (_, i) => Math.imul(i, 0x9e3779b1)).buffer);
export const WEIGHTS_HASH: string = hashOf(largeFile(CONTENT));

/** A model that can be pulled; nothing in it could be loaded. */
export function plainFiles(): Record<string, FakeFile> {
  return { 'config.json': smallFile('{"model_type":"llava"}'), 'README.md': smallFile('# A model'), [WEIGHTS]: largeFile(CONTENT) };
}

/** All files under a folder: contents, and where links lead. */
export async function tree(folder: string, but: (path: string) => boolean = () => false): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const found: Record<string, string> = {};
  for (const entry of entries) {
    const file = join(entry.parentPath, entry.name);
    const path = relative(folder, file).replaceAll('\\', '/');
    if (entry.isDirectory() || but(path)) continue;
    found[path] = entry.isSymbolicLink() ? `-> ${await readlink(file)}` : (await readFile(file)).toString('latin1');
  }
  return found;
}
