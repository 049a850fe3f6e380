import { CheckpointError } from '../layers/errors';
import { type JsonNode, JsonTextError, parseJsonText } from './json_text';

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
  const root = parse(text, where);
  const map = member(root, 'weight_map');
  if (map?.kind !== 'object' || map.entries.length === 0) {
    throw new CheckpointError('WEIGHT_MAP_MISSING', `${where}: weight_map must be an object that names at least one tensor. Get the file again.`);
  }
  const weightMap = new Map<string, string>();
  for (const [tensor, shard] of map.entries) {
    if (weightMap.has(tensor)) throw new CheckpointError('DUPLICATE_KEY', `${where}: weight_map has "${tensor}" twice.`);
    if (shard.kind !== 'string') throw new CheckpointError('WEIGHT_MAP_MISSING', `${where}: weight_map["${tensor}"] must be a file name.`);
    weightMap.set(tensor, safePath(shard.value, where));
  }
  const total = member(member(root, 'metadata'), 'total_size');
  return {
    weightMap,
    shards: [...new Set(weightMap.values())].sort(),
    totalSize: total?.kind === 'number' ? Number(total.source) : undefined,
  };
}

function parse(text: string, where: string): JsonNode {
  try {
    return parseJsonText(text);
  } catch (cause) {
    if (!(cause instanceof JsonTextError)) throw cause;
    throw new CheckpointError('NOT_JSON', `${where}: is not JSON: ${cause.message} (character ${cause.position}). Get it again.`, { cause });
  }
}

function member(node: JsonNode | undefined, key: string): JsonNode | undefined {
  return node?.kind === 'object' ? node.entries.find(([name]) => name === key)?.[1] : undefined;
}

/** A file of the checkpoint's own directory, whatever a foreign index says. */
function safePath(path: string, where: string): string {
  const leaves = path === '' || path.includes('\0') || path.includes('\\') || path.startsWith('/') || /^[a-z][a-z0-9+.-]*:/i.test(path);
  if (leaves || path.split('/').some((part) => part === '..' || part === '.' || part === '')) {
    throw new CheckpointError('SHARD_PATH', `${where}: names the file ${JSON.stringify(path)}; shards must lie in the checkpoint's own directory.`);
  }
  return path;
}
