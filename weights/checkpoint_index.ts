import { CheckpointError } from '../layers/errors';
import { JsonCursor, JsonTextError, quoted } from './json_text';

/** `model.safetensors.index.json`: which shard holds which tensor. */
export interface ShardIndex {
  readonly weightMap: ReadonlyMap<string, string>;
  /** The shards' file names, each once, sorted. */
  readonly shards: readonly string[];
  /** `metadata.total_size`, if the file has it. */
  readonly totalSize: number | undefined;
}

/** @throws CheckpointError `NOT_JSON`, `DUPLICATE_KEY`, `WEIGHT_MAP_MISSING`, `SHARD_PATH` */
export function parseIndex(text: string, where: string): ShardIndex {
  const cursor = new JsonCursor(text);
  const weightMap = new Map<string, string>();
  let totalSize: number | undefined;
  try {
    readMembers(cursor, where, {
      weight_map: () => readWeightMap(cursor, weightMap, where),
      metadata: () =>
        readMembers(cursor, where, {
          total_size: () => {
            if (cursor.kind() === 'number') totalSize = Number(cursor.number());
            else cursor.skip();
          },
        }),
    });
    cursor.end();
  } catch (cause) {
    if (!(cause instanceof JsonTextError)) throw cause;
    throw new CheckpointError('NOT_JSON', `${where}: is not JSON: ${cause.message} (character ${cause.position}). Get it again.`, { cause });
  }
  if (weightMap.size === 0) {
    throw new CheckpointError('WEIGHT_MAP_MISSING', `${where}: weight_map must be an object that names at least one tensor. Get the file again.`);
  }
  return { weightMap, shards: [...new Set(weightMap.values())].sort(), totalSize };
}

/** Reads an object's members of the given names and skips all else, a value that is no object too. */
function readMembers(cursor: JsonCursor, where: string, readers: Readonly<Record<string, () => void>>): void {
  const seen = new Set<string>();
  eachMember(cursor, (key) => {
    const read = Object.hasOwn(readers, key) ? readers[key] : undefined;
    if (read && seen.has(key)) throw new CheckpointError('DUPLICATE_KEY', `${where}: has the key "${key}" twice. Get the file again.`);
    seen.add(key);
    if (read) read();
    else cursor.skip();
  });
}

function eachMember(cursor: JsonCursor, member: (key: string) => void): void {
  if (cursor.kind() === 'object') cursor.object(member);
  else cursor.skip();
}

function readWeightMap(cursor: JsonCursor, weightMap: Map<string, string>, where: string): void {
  eachMember(cursor, (tensor) => {
    if (weightMap.has(tensor)) throw new CheckpointError('DUPLICATE_KEY', `${where}: weight_map has ${quoted(tensor)} twice. Get the file again.`);
    if (cursor.kind() !== 'string') {
      throw new CheckpointError(
        'WEIGHT_MAP_MISSING',
        `${where}: weight_map[${quoted(tensor)}] is ${cursor.describe()}; it must be a file name. Get the file again.`,
      );
    }
    weightMap.set(tensor, safePath(cursor.string(), where));
  });
}

/** A file of the checkpoint's own directory, whatever a foreign index says. @throws CheckpointError `SHARD_PATH` */
export function safePath(path: string, where: string): string {
  const foreign = path === '' || /[\0\\:]/.test(path); // a colon: a URL, a drive, a stream of NTFS
  if (foreign || path.split('/').some((part) => part === '..' || part === '.' || part === '')) {
    throw new CheckpointError(
      'SHARD_PATH',
      `${where}: names the file ${quoted(path)}; files of a checkpoint must lie in its own directory. Do not trust it, or correct the path.`,
    );
  }
  return path;
}
