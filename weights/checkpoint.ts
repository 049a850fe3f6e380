import type * as tf from '@tensorflow/tfjs';
import { CheckpointError } from '../layers/errors';
import { type ByteDirectory, readText } from './byte_directory';
import { parseIndex, type ShardIndex } from './checkpoint_index';
import { openSafetensors, type SafetensorsFile, type TensorInfo } from './safetensors';

export const SINGLE_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';
/** Lies in a directory while a conversion writes into it. */
export const UNFINISHED_MARK = 'conversion-unfinished';

/** The tensors of a checkpoint, in one file or in shards. Headers are read when it is opened, tensors when they are asked for. */
export class Checkpoint {
  /** In the order of the files, and of the bytes in each: reading in this order reads forward. */
  readonly names: readonly string[];
  /** Bytes of all tensors. */
  readonly totalBytes: number;
  private readonly owner = new Map<string, SafetensorsFile>();

  /** @throws CheckpointError `TENSOR_IN_TWO_SHARDS` */
  constructor(
    readonly name: string,
    readonly files: readonly SafetensorsFile[],
    /** What is odd about the checkpoint but does not prevent its use. */
    readonly warnings: readonly string[] = [],
  ) {
    for (const file of files) {
      for (const tensor of file.names) {
        const first = this.owner.get(tensor);
        if (first) {
          throw new CheckpointError(
            'TENSOR_IN_TWO_SHARDS',
            `${name}: tensor "${tensor}" is in ${first.name} and in ${file.name}. Write the checkpoint again.`,
          );
        }
        this.owner.set(tensor, file);
      }
    }
    this.names = [...this.owner.keys()];
    this.totalBytes = this.names.reduce((sum, tensor) => sum + this.info(tensor).byteLength, 0);
  }

  /** Metadata of the (first) file; `format` is `pt` where torch wrote it. */
  get metadata(): ReadonlyMap<string, string> {
    return this.files[0]?.metadata ?? new Map();
  }

  has(name: string): boolean {
    return this.owner.has(name);
  }

  /** @throws CheckpointError `NO_SUCH_TENSOR` */
  info(name: string): TensorInfo {
    return this.file(name).info(name);
  }

  /** The stored bytes. @throws what `SafetensorsFile.bytes` throws */
  bytes(name: string, signal?: AbortSignal): Promise<Uint8Array> {
    return this.file(name).bytes(name, signal);
  }

  /** A tensor, which the caller disposes. @throws what `SafetensorsFile.tensor` throws */
  tensor(name: string, signal?: AbortSignal): Promise<tf.Tensor> {
    return this.file(name).tensor(name, signal);
  }

  /** Closes all files. Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }

  private file(name: string): SafetensorsFile {
    const file = this.owner.get(name);
    if (!file) throw new CheckpointError('NO_SUCH_TENSOR', `${this.name}: has no tensor "${name}" among its ${this.names.length}.`);
    return file;
  }
}

/**
 * Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names, of a directory (the single file wins, as in transformers).
 * @throws CheckpointError `NO_WEIGHTS`, `CONVERSION_UNFINISHED`; `NOT_JSON`, `WEIGHT_MAP_MISSING`, `SHARD_PATH`, `SHARD_MISSING`, `KEY_NOT_IN_SHARD`,
 * `TENSOR_NOT_IN_INDEX`, `TENSOR_IN_TWO_SHARDS`; what `openSafetensors` throws
 */
export async function openCheckpoint(directory: ByteDirectory, signal?: AbortSignal): Promise<Checkpoint> {
  await checkFinished(directory, signal);
  if (await directory.has(SINGLE_FILE, signal)) {
    return new Checkpoint(directory.name, [await openSafetensors(await directory.open(SINGLE_FILE, signal), signal)]);
  }
  if (await directory.has(INDEX_FILE, signal)) return openShards(directory, signal);
  throw await noWeights(directory, signal);
}

/** @throws CheckpointError `CONVERSION_UNFINISHED` for what a conversion left that was killed, whatever files it has */
export async function checkFinished(directory: ByteDirectory, signal?: AbortSignal): Promise<void> {
  if (!(await directory.has(UNFINISHED_MARK, signal))) return;
  throw new CheckpointError('CONVERSION_UNFINISHED', `${directory.name}: a conversion into it did not end. Delete the directory and convert again.`);
}

/** Names of the files that hold the weights of a directory. @throws CheckpointError `NO_WEIGHTS` and what reading an index throws */
export async function weightFiles(directory: ByteDirectory, signal?: AbortSignal): Promise<readonly string[]> {
  if (await directory.has(SINGLE_FILE, signal)) return [SINGLE_FILE];
  if (!(await directory.has(INDEX_FILE, signal))) throw await noWeights(directory, signal);
  return parseIndex(await readText(directory, INDEX_FILE, signal), `${directory.name}/${INDEX_FILE}`).shards;
}

async function noWeights(directory: ByteDirectory, signal?: AbortSignal): Promise<CheckpointError> {
  const torch = await directory.has('pytorch_model.bin', signal);
  const advice = torch
    ? 'It has pytorch_model.bin: save it with transformers (save_pretrained) to get safetensors.'
    : 'Check the path, and that the download is complete.';
  return new CheckpointError('NO_WEIGHTS', `${directory.name}: has neither ${SINGLE_FILE} nor ${INDEX_FILE}. ${advice}`);
}

async function openShards(directory: ByteDirectory, signal?: AbortSignal): Promise<Checkpoint> {
  const where = `${directory.name}/${INDEX_FILE}`;
  const index = parseIndex(await readText(directory, INDEX_FILE, signal), where);
  const files: SafetensorsFile[] = [];
  try {
    for (const shard of index.shards) {
      if (!(await directory.has(shard, signal))) {
        throw new CheckpointError('SHARD_MISSING', `${where}: names the file "${shard}", which is not in ${directory.name}. Get the missing file.`);
      }
      files.push(await openSafetensors(await directory.open(shard, signal), signal));
    }
    // Before the index is compared: a tensor in two shards agrees with an index that names one of them.
    const checkpoint = new Checkpoint(directory.name, files, sizeWarnings(index, files, where));
    checkAgainstIndex(index, files, where);
    return checkpoint;
  } catch (error) {
    await Promise.all(files.map((file) => file.close()));
    throw error;
  }
}

function checkAgainstIndex(index: ShardIndex, files: readonly SafetensorsFile[], where: string): void {
  const byShard = new Map(index.shards.map((shard, i) => [shard, files[i] as SafetensorsFile]));
  for (const [tensor, shard] of index.weightMap) {
    if (byShard.get(shard)?.has(tensor)) continue;
    throw new CheckpointError(
      'KEY_NOT_IN_SHARD',
      `${where}: says that "${tensor}" is in "${shard}", but it is not. The files are of different versions: get all again.`,
    );
  }
  for (const [shard, file] of byShard) {
    const extra = file.names.filter((tensor) => !index.weightMap.has(tensor));
    if (extra.length === 0) continue;
    throw new CheckpointError(
      'TENSOR_NOT_IN_INDEX',
      `${where}: does not name ${extra.length} tensor(s) of "${shard}", first "${extra[0]}". The files are of different versions: get all again.`,
    );
  }
}

function sizeWarnings({ totalSize }: ShardIndex, files: readonly SafetensorsFile[], where: string): string[] {
  const bytes = files.flatMap((file) => file.names.map((name) => file.info(name).byteLength)).reduce((sum, size) => sum + size, 0);
  return totalSize === undefined || totalSize === bytes ? [] : [`${where}: total_size says ${totalSize} bytes, the shards hold ${bytes}.`];
}
