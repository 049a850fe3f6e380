import { CheckpointError, ConfigError } from '../layers/errors';
import { type Checkpoint, SINGLE_FILE } from '../weights/checkpoint';
import { bytesOf, type FloatDtype, isFloat } from '../weights/dtype';
import { layoutByName, mapNames, storedName } from '../weights/layouts';

/** One tensor to write. */
export interface ConvertedTensor {
  readonly name: string;
  /** Its name in the source. */
  readonly stored: string;
  readonly storedDtype: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

export interface Shard {
  readonly file: string;
  readonly tensors: readonly ConvertedTensor[];
}

export interface Conversion {
  readonly tensors: readonly ConvertedTensor[];
  readonly shards: readonly Shard[];
  readonly totalBytes: number;
  readonly dropped: readonly string[];
}

export interface PlanOptions {
  readonly dtype: FloatDtype | undefined;
  readonly layout: string | undefined;
  readonly maxShardBytes: number;
}

/**
 * What a conversion will write, from headers alone.
 * @throws CheckpointError `UNKNOWN_LAYOUT`, `UNEXPECTED_KEYS`; ConfigError `BAD_OPTION`
 */
export function planConversion(checkpoint: Checkpoint, options: PlanOptions): Conversion {
  if (!Number.isSafeInteger(options.maxShardBytes) || options.maxShardBytes < 1) {
    throw new ConfigError('BAD_OPTION', `The largest shard is ${options.maxShardBytes} bytes; it must be a whole number from 1.`);
  }
  const { names, dropped } = renamed(checkpoint, options.layout);
  const tensors = [...names].map(([stored, name]): ConvertedTensor => {
    const { dtype: storedDtype, shape, byteLength } = checkpoint.info(stored);
    if (!options.dtype || !isFloat(storedDtype)) return { name, stored, storedDtype, dtype: storedDtype, shape, byteLength };
    const size = (byteLength / bytesOf(storedDtype)) * bytesOf(options.dtype);
    return { name, stored, storedDtype, dtype: options.dtype, shape, byteLength: size };
  });
  return {
    tensors,
    shards: shards(tensors, options.maxShardBytes),
    totalBytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
    dropped,
  };
}

/** Stored name to new name, in the order of the source's files. */
function renamed(checkpoint: Checkpoint, layoutName: string | undefined): { names: ReadonlyMap<string, string>; dropped: readonly string[] } {
  if (layoutName === undefined) return { names: new Map(checkpoint.names.map((name) => [name, name])), dropped: [] };
  const layout = layoutByName(layoutName);
  const { stored, dropped, unknown, layout: before } = mapNames(checkpoint.names);
  const declared = new Map([...stored].map(([name, key]) => [key, name]));
  const names = new Map<string, string>();
  const homeless = [...unknown];
  for (const key of checkpoint.names) {
    const name = declared.get(key);
    if (name === undefined) continue;
    const target = storedName(layout, name);
    if (target === undefined) homeless.push(key);
    else names.set(key, target);
  }
  if (homeless.length > 0) {
    throw new CheckpointError(
      'UNEXPECTED_KEYS',
      `${checkpoint.name}: ${homeless.length} tensor(s) have no place in the layout "${layout.name}", first "${homeless[0]}" (the source's layout is "${before.name}"). Leave the layout as it is, or choose another.`,
    );
  }
  return { names, dropped };
}

/** Fills one file after another, in order; a tensor that is larger than a file has one alone. */
function shards(tensors: readonly ConvertedTensor[], maxBytes: number): Shard[] {
  const groups: ConvertedTensor[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    let group = groups[groups.length - 1] as ConvertedTensor[];
    if (group.length > 0 && bytes + tensor.byteLength > maxBytes) {
      group = [];
      groups.push(group);
      bytes = 0;
    }
    group.push(tensor);
    bytes += tensor.byteLength;
  }
  if (groups.length === 1) return [{ file: SINGLE_FILE, tensors: groups[0] as ConvertedTensor[] }];
  const number = (i: number): string => String(i).padStart(5, '0');
  return groups.map((group, i) => ({ file: `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`, tensors: group }));
}
