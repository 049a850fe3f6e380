import { readFile } from 'node:fs/promises';
import { HubError } from '../../layers/errors';
import { INDEX_FILE } from '../../weights/checkpoint';
import { parseIndex } from '../../weights/checkpoint_index';
import { hubCacheDirectory, repositoryFolder } from '../../weights/hub_cache_node';
import { checkRevision, formatHubName, type HubName, parseHubName } from '../../weights/hub_names';
import { checkOptionNames, type OptionNames } from '../../weights/option_names';
import { hubEndpoint, hubToken, isOffline } from './environment_node';
import type { HubAccess } from './http';
import { type HubFile, openHub } from './hub';
import { checkPath, selectMatching, selectModel, selectShards } from './selection';
import { Snapshot } from './snapshot_node';

export interface PullProgress {
  /** The file that got further. */
  readonly file: string;
  /** Of all files together, what is on disk, with what was there before. */
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface PullOptions {
  /** A branch, a tag, the 40 digits of a commit, or `refs/pr/1`; `main` unless given here or in the name. */
  readonly revision?: string;
  /** Patterns of paths to fetch in place of what a model is loaded from: `*` for any characters, `?` for one. */
  readonly include?: readonly string[];
  /** For private and gated models; `HF_TOKEN` or the file that `hf auth login` writes unless given. It is sent to the hub alone. */
  readonly token?: string;
  /** `HF_ENDPOINT` or Hugging Face's hub unless given. */
  readonly endpoint?: string;
  /** Where models are kept; by `HF_HUB_CACHE`, `HF_HOME` and so on unless given. */
  readonly cacheDir?: string;
  /** Fetch again what is there. */
  readonly force?: boolean;
  readonly progress?: (progress: PullProgress) => void;
  readonly signal?: AbortSignal;
  /** For a proxy, or tests; `globalThis.fetch` unless given. */
  readonly fetch?: typeof fetch;
  /** How often a request or a file is tried again without getting further; 5 unless given. */
  readonly retries?: number;
  /** Milliseconds without a byte after which a connection counts as lost; 30,000 unless given. */
  readonly timeoutMs?: number;
}

export interface PulledFile {
  readonly path: string;
  readonly bytes: number;
  /** SHA-256, or git's SHA-1 of a small file. */
  readonly hash: string;
  /** false: it was there before. */
  readonly fetched: boolean;
}

export interface PullReport {
  readonly repository: string;
  readonly revision: string;
  readonly commit: string;
  /** The snapshot, which `loadModel` takes as it is. */
  readonly directory: string;
  readonly files: readonly PulledFile[];
  readonly bytes: number;
  /** Bytes of the files that were not there before. */
  readonly fetchedBytes: number;
  /** Files of the repository that were left out. */
  readonly skipped: readonly string[];
}

const PULL_OPTIONS: OptionNames<PullOptions> = {
  revision: true,
  include: true,
  token: true,
  endpoint: true,
  cacheDir: true,
  force: true,
  progress: true,
  signal: true,
  fetch: true,
  retries: true,
  timeoutMs: true,
};

/**
 * Fetches a model from a Hugging Face hub into the local cache that pip's huggingface_hub uses too, in its layout; `loadModel('org/name')` then finds
 * it there. By default it fetches what a model is loaded from, and no other files.
 *
 * What was cut off goes on where it was, by byte ranges. Every file is compared with the hash that the hub lists before it appears under its name, and
 * the revision points to the new state when all its files are there. Several pulls at once do no harm.
 *
 * `const { directory } = await pullModel('llava-hf/llava-1.5-7b-hf', { progress: ({ bytes, totalBytes }) => console.error(bytes / totalBytes) });`
 * @throws HubError, CheckpointError `SHARD_MISSING` and what reading an index throws, OutputError `NO_SPACE`, `WRITE_FAILED`; the signal's reason when
 * it is aborted
 */
export async function pullModel(name: string, options: PullOptions = {}): Promise<PullReport> {
  checkOptionNames(options, PULL_OPTIONS, 'pullModel');
  const wanted = nameOf(name, options.revision);
  if (isOffline()) {
    throw new HubError(
      'HUB_OFFLINE',
      `${formatHubName(wanted)} was not fetched: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) asks for no network. Unset it.`,
    );
  }
  const { signal, retries = 5 } = options;
  signal?.throwIfAborted();
  const access: HubAccess = {
    endpoint: hubEndpoint(options.endpoint),
    token: await hubToken(options.token),
    fetch: options.fetch ?? globalThis.fetch,
    timeoutMs: options.timeoutMs ?? 30_000,
    signal,
  };
  const hub = openHub(wanted, access, retries);
  const commit = await hub.commit();
  const listed = await hub.files(commit);
  const where = `${access.endpoint}/${wanted.repository} at ${wanted.revision}`;
  const { files, sharded } = options.include ? selectMatching(listed, options.include, where) : selectModel(listed, where);
  for (const { path } of files) checkPath(path, where);

  const folder = repositoryFolder(options.cacheDir ?? hubCacheDirectory(), wanted.repository);
  const snapshot = new Snapshot(folder, hub, commit, { retries, signal, force: options.force ?? false, progress: options.progress });
  const index = sharded ? files.find(({ path }) => path === INDEX_FILE) : undefined;
  let shards: readonly HubFile[] = [];
  if (index) {
    await snapshot.fetch([index]); // first, for it tells how much there is to fetch
    const named = parseIndex(await readFile(await snapshot.pathOf(index), 'utf8'), `${where}: ${INDEX_FILE}`).shards;
    shards = selectShards(listed, named, where);
  }
  await snapshot.fetch([...files.filter((file) => file !== index), ...shards]);
  await snapshot.link();
  await snapshot.refer(wanted.revision);

  const pulled = snapshot.files.map(({ path, size, hash }) => ({ path, bytes: size, hash, fetched: snapshot.fetched.has(hash) }));
  const bytes = (list: readonly PulledFile[]) => list.reduce((total, file) => total + file.bytes, 0);
  const paths = new Set(pulled.map(({ path }) => path));
  return {
    ...wanted,
    commit,
    directory: snapshot.directory,
    files: pulled,
    bytes: bytes(pulled),
    fetchedBytes: bytes(pulled.filter(({ fetched }) => fetched)),
    skipped: listed.map(({ path }) => path).filter((path) => !paths.has(path)),
  };
}

/** @throws HubError `BAD_MODEL_NAME`, `BAD_REVISION` */
function nameOf(name: string, revision: string | undefined): HubName {
  const parsed = parseHubName(name);
  if (revision === undefined) return parsed;
  if (name.includes('@') && parsed.revision !== revision) {
    throw new HubError('BAD_REVISION', `"${name}" names one revision and the option another, "${revision}". Give one of them.`);
  }
  return { ...parsed, revision: checkRevision(revision) };
}
