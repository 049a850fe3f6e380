import { access, readdir, readFile, readlink, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { CheckpointError } from '../layers/errors';
import { INDEX_FILE, SINGLE_FILE } from './checkpoint';
import { parseIndex } from './checkpoint_index';
import { isModelFile } from './hub_files';
import { formatHubName, type HubName, isCommit, mayBeHubName, parseHubName } from './hub_names';

/**
 * The local cache of models as pip's huggingface_hub keeps it, so that either finds what the other fetched:
 *
 *     models--org--name/
 *       refs/main                    the commit that the branch was at when it was fetched
 *       blobs/<hash>                 contents, by SHA-256 (large files) or git's SHA-1 (small ones)
 *       snapshots/<commit>/<file>    a relative link to a blob; a plain file where links are not allowed
 */

type Environment = Readonly<Record<string, string | undefined>>;

/** `~` and `$NAME` in a path as huggingface_hub reads them. An unknown variable stays as it is. */
function expand(path: string, environment: Environment): string {
  const home = /^~(?=\/|\\|$)/.test(path) ? homedir() + path.slice(1) : path;
  return home.replace(/\$(?:(\w+)|\{([^}]+)\})/g, (whole, plain?: string, braced?: string) => environment[plain ?? braced ?? ''] ?? whole);
}

/** `HF_HOME`, or `huggingface` in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`). A variable that is set to nothing counts as not set. */
export function hubHome(environment: Environment = process.env): string {
  return expand(environment.HF_HOME || join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'), environment);
}

/** The folder of all cached models: `HF_HUB_CACHE`, its older name `HUGGINGFACE_HUB_CACHE`, or `hub` in `hubHome`. */
export function hubCacheDirectory(environment: Environment = process.env): string {
  const named = environment.HF_HUB_CACHE || environment.HUGGINGFACE_HUB_CACHE;
  return named ? expand(named, environment) : join(hubHome(environment), 'hub');
}

/** Where the cache keeps a model. */
export function repositoryFolder(cache: string, repository: string): string {
  return join(cache, `models--${repository.replace('/', '--')}`);
}

/**
 * The directory of a model that is given as a path or as a name, without a network: a path that exists is returned as it is; `org/name` or
 * `org/name@revision` is looked up in the local Hugging Face cache.
 *
 * `const directory = await findModel('llava-hf/llava-1.5-7b-hf');`
 * @throws CheckpointError `MODEL_NOT_CACHED`, `REVISION_NOT_CACHED`, `SNAPSHOT_INCOMPLETE`; HubError `BAD_REVISION`
 */
export async function findModel(where: string, cache: string = hubCacheDirectory()): Promise<string> {
  if (!mayBeHubName(where) || (await exists(where))) return where; // what is no directory either is told by whoever opens it
  return findSnapshot(parseHubName(where), cache);
}

/** The snapshot of a model, complete. @throws as `findModel` */
async function findSnapshot(name: HubName, cache: string): Promise<string> {
  const folder = repositoryFolder(cache, name.repository);
  const fetchIt = `Fetch it with: vispruner pull ${formatHubName(name)}`;
  const started = await unfinished(folder);
  const pending =
    started.length > 0 ? ` A download of it was cut off (${started.length} file(s) under way in blobs), and goes on with the same command.` : '';
  if (!(await exists(folder))) {
    throw new CheckpointError(
      'MODEL_NOT_CACHED',
      `${formatHubName(name)}: there is no such directory, and no such model in the Hugging Face cache (looked for ${folder}). ${fetchIt}`,
    );
  }
  const commit = await commitOf(folder, name.revision);
  const snapshot = join(folder, 'snapshots', commit ?? '');
  if (commit === undefined || !(await exists(snapshot))) {
    const known = await revisions(folder);
    const there = known.length > 0 ? `The cache has ${known.join(', ')}.` : 'The cache has no revision of it.';
    throw new CheckpointError('REVISION_NOT_CACHED', `${folder}: has no revision "${name.revision}". ${there}${pending} ${fetchIt}`);
  }
  const missing = await missingFiles(snapshot);
  if (missing.length > 0) {
    throw new CheckpointError('SNAPSHOT_INCOMPLETE', `${snapshot}: ${missing.join(' and ')}.${pending} ${fetchIt}`);
  }
  return snapshot;
}

/** Follows links: false for one that leads nowhere. */
async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The commit of a revision, if the cache knows it. */
async function commitOf(folder: string, revision: string): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  const file = join(folder, 'refs', revision);
  const isFile = await stat(file).then(
    (found) => found.isFile(),
    () => false,
  );
  if (!isFile) return undefined;
  const commit = (await readFile(file, 'utf8')).trim();
  if (isCommit(commit)) return commit;
  throw new CheckpointError(
    'REVISION_NOT_CACHED',
    `${file}: should hold a commit's 40 digits. Delete it, and fetch the model again with vispruner pull.`,
  );
}

/** Revisions that are in the cache, each name with the first digits of its commit. */
async function revisions(folder: string): Promise<string[]> {
  const refs = await readdir(join(folder, 'refs'), { recursive: true }).catch(() => []);
  const named = await Promise.all(
    refs.map(async (ref) => ({ ref: ref.replaceAll('\\', '/'), commit: (await readFile(join(folder, 'refs', ref), 'utf8').catch(() => '')).trim() })),
  );
  const snapshots = await readdir(join(folder, 'snapshots')).catch(() => []);
  return snapshots.filter(isCommit).map((commit) => {
    const names = named.filter((entry) => entry.commit === commit).map(({ ref }) => ref);
    return names.length > 0 ? `${names.join(' = ')} (${commit.slice(0, 8)})` : commit;
  });
}

async function unfinished(folder: string): Promise<string[]> {
  const blobs = await readdir(join(folder, 'blobs')).catch(() => []);
  return blobs.filter((name) => name.endsWith('.incomplete'));
}

/** What a model can't be loaded without and the snapshot lacks, in words. */
async function missingFiles(snapshot: string): Promise<string[]> {
  const missing: string[] = [];
  const entries = await readdir(snapshot, { withFileTypes: true });
  const dangling = new Set<string>();
  for (const entry of entries) {
    const path = join(snapshot, entry.name);
    if (!isModelFile(entry.name) || !entry.isSymbolicLink() || (await exists(path))) continue;
    dangling.add(entry.name);
    missing.push(`${entry.name} links to ${basename(await readlink(path))}, which is not among the blobs`);
  }
  const has = async (file: string) => dangling.has(file) || (await exists(join(snapshot, file))); // each is told once
  if (!(await has('config.json'))) missing.push('config.json is missing');
  if (await has(SINGLE_FILE)) return missing;
  if (!(await has(INDEX_FILE))) return [...missing, `${SINGLE_FILE} is missing (and ${INDEX_FILE} with its shards, which could stand for it)`];
  for (const shard of await shardsOf(join(snapshot, INDEX_FILE))) {
    if (!(await has(shard))) missing.push(`${shard} is missing, which ${INDEX_FILE} names`);
  }
  return missing;
}

/** The shards that an index names; none if it can't be read, which is told when it is opened. */
async function shardsOf(index: string): Promise<readonly string[]> {
  try {
    return parseIndex(await readFile(index, 'utf8'), index).shards;
  } catch {
    return [];
  }
}
