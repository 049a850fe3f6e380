import { copyFile, mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { OutputError } from '../layers/errors';
import { openDirectory } from '../weights/byte_directory_node';
import { type Checkpoint, INDEX_FILE, UNFINISHED_MARK } from '../weights/checkpoint';
import { readCheckpoint } from '../weights/checkpoint_node';
import { CHECKSUMS_FILE, formatChecksums } from '../weights/checksums';
import { findModel } from '../weights/hub_cache_node';
import { checkOptionNames, type OptionNames } from '../weights/option_names';
import { writeSafetensors } from '../weights/safetensors_node';
import type { StoredTensor } from '../weights/safetensors_write';
import { PRECISIONS, type Precision } from './options';
import { type Conversion, planConversion } from './plan';
import { recast } from './recast';

export interface ConvertOptions {
  /** What floating-point tensors are stored in; as they are, unless given. Integers stay as they are. */
  readonly dtype?: Precision;
  /** Largest file, unless a single tensor is larger; 5 GB unless given. */
  readonly maxShardBytes?: number;
  /** The layout of the keys (see `weights/layouts`): as it is, unless given. Buffers that no release needs any more are left out then. */
  readonly layout?: string;
  /** Replace a target that exists. */
  readonly overwrite?: boolean;
  /** Refuse tensors with NaN or infinity. */
  readonly checkFinite?: boolean;
  readonly progress?: (progress: { readonly name: string; readonly bytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

export interface ConvertReport {
  readonly tensors: number;
  /** Bytes of all tensors, written. */
  readonly bytes: number;
  readonly files: readonly string[];
  /** Files beside the weights that were copied. */
  readonly copied: readonly string[];
  /** Tensors of the source that the new layout has no place for and no release needs. */
  readonly dropped: readonly string[];
  readonly warnings: readonly string[];
}

const DEFAULT_SHARD = 5e9;
/** Weights in any form: written anew, never copied. */
const WEIGHTS = /\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|gguf|onnx)$|\.index\.json$/;

const CONVERT_OPTIONS: OptionNames<ConvertOptions> = {
  dtype: true,
  maxShardBytes: true,
  layout: true,
  overwrite: true,
  checkFinite: true,
  progress: true,
  signal: true,
};

/**
 * Writes a checkpoint again, in another precision, layout of keys or size of files; what it writes, transformers reads. Tensors are read, converted and
 * written one at a time.
 *
 * The target appears when all is on disk: until then everything lies in a directory `TARGET.partial-…` with a mark in it, which no reader takes for a
 * checkpoint. A failure or an abort removes it; a killed process leaves it to be deleted.
 *
 * `await convertCheckpoint('llava-1.5-7b-hf', 'llava-bf16', { dtype: 'bfloat16', maxShardBytes: 2e9 });`
 * @throws OutputError `TARGET_EXISTS`, `SAME_DIRECTORY`, `WRITE_FAILED`; CheckpointError `F16_OVERFLOW`, `BF16_OVERFLOW`, `NOT_FINITE`, `UNEXPECTED_KEYS` (the new layout has no place for
 * them), `UNKNOWN_LAYOUT`, and what reading a checkpoint throws; ConfigError `BAD_OPTION`; the signal's reason when it is aborted
 */
export async function convertCheckpoint(from: string, target: string, options: ConvertOptions = {}): Promise<ConvertReport> {
  const source = await findModel(from);
  checkOptionNames(options, CONVERT_OPTIONS, 'convertCheckpoint');
  if (resolve(source) === resolve(target)) throw new OutputError('SAME_DIRECTORY', `${target}: is source and target. Give another target.`);
  const checkpoint = await readCheckpoint(source, options.signal);
  try {
    const plan = planConversion(checkpoint, {
      dtype: options.dtype && PRECISIONS[options.dtype],
      layout: options.layout,
      maxShardBytes: options.maxShardBytes ?? DEFAULT_SHARD,
    });
    await checkTarget(target, options.overwrite ?? false);
    const partial = `${resolve(target)}.partial-${process.pid}-${Date.now().toString(36)}`;
    try {
      await mkdir(dirname(partial), { recursive: true });
      await mkdir(partial);
      await writeFile(join(partial, UNFINISHED_MARK), '');
      await writeShards(checkpoint, plan, partial, options);
      const copied = await copyBeside(source, partial, options.dtype);
      const files = [...plan.shards.map(({ file }) => file), ...(plan.shards.length > 1 ? [INDEX_FILE] : []), ...copied].sort();
      await writeFile(join(partial, CHECKSUMS_FILE), await formatChecksums(await openDirectory(partial), files, options.signal));
      options.signal?.throwIfAborted();
      await rm(join(partial, UNFINISHED_MARK));
      await putInPlace(partial, target);
      return {
        tensors: plan.tensors.length,
        bytes: plan.totalBytes,
        files: plan.shards.map(({ file }) => file),
        copied,
        dropped: plan.dropped,
        warnings: checkpoint.warnings,
      };
    } catch (error) {
      await rm(partial, { recursive: true, force: true });
      throw error;
    }
  } finally {
    await checkpoint.close();
  }
}

async function checkTarget(target: string, overwrite: boolean): Promise<void> {
  const found = await stat(target).catch(() => undefined);
  if (!found) return;
  if (!found.isDirectory()) throw new OutputError('TARGET_EXISTS', `${target}: is a file; the target must be a directory that does not exist yet.`);
  if (overwrite || (await readdir(target)).length === 0) return;
  throw new OutputError('TARGET_EXISTS', `${target}: exists and is not empty. Choose another target, or replace it with --overwrite.`);
}

async function writeShards(checkpoint: Checkpoint, plan: Conversion, folder: string, options: ConvertOptions): Promise<void> {
  const metadata = new Map([['format', 'pt'], ...checkpoint.metadata]); // transformers refuses files without a format
  const weightMap: [string, string][] = [];
  let bytes = 0;
  for (const { file, tensors } of plan.shards) {
    const entries = new Map<string, StoredTensor>();
    for (const tensor of tensors) {
      weightMap.push([tensor.name, file]);
      entries.set(tensor.name, {
        dtype: tensor.dtype,
        shape: tensor.shape,
        bytes: async () => {
          const stored = await checkpoint.bytes(tensor.stored, options.signal);
          const result = await recast(tensor, stored, { where: checkpoint.name, checkFinite: options.checkFinite ?? false, signal: options.signal });
          bytes += result.byteLength;
          options.progress?.({ name: tensor.name, bytes, totalBytes: plan.totalBytes });
          return result;
        },
      });
    }
    await writeSafetensors(join(folder, file), entries, metadata, { signal: options.signal });
  }
  if (plan.shards.length === 1) return;
  const sorted = weightMap.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, file]) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  await writeFile(
    join(folder, INDEX_FILE),
    `{\n  "metadata": {\n    "total_size": ${plan.totalBytes}\n  },\n  "weight_map": {\n${sorted.join(',\n')}\n  }\n}\n`,
  );
}

/** Configurations, tokenizers, templates, licences: every plain file of the directory that holds no weights. */
async function copyBeside(source: string, folder: string, dtype: Precision | undefined): Promise<string[]> {
  const entries = await readdir(source, { withFileTypes: true });
  const copied: string[] = [];
  for (const entry of entries) {
    const from = join(source, entry.name);
    const plain = entry.isFile() || (entry.isSymbolicLink() && (await stat(from)).isFile()); // the hub's cache links to its files
    if (!plain || entry.name.startsWith('.') || entry.name === UNFINISHED_MARK || entry.name === CHECKSUMS_FILE || WEIGHTS.test(entry.name)) continue;
    if (entry.name === 'config.json' && dtype) await writeFile(join(folder, entry.name), withPrecision(await readFile(from, 'utf8'), dtype));
    else await copyFile(from, join(folder, entry.name));
    copied.push(entry.name);
  }
  return copied.sort();
}

/** Changed in the text: JSON.stringify would turn 1.0 into 1, which transformers' strict configurations refuse for a float. */
function withPrecision(config: string, dtype: Precision): string {
  return config.replace(/("(?:torch_)?dtype"\s*:\s*)"[^"]*"/g, `$1"${dtype}"`);
}

async function putInPlace(partial: string, target: string): Promise<void> {
  const found = await stat(target).catch(() => undefined);
  if (!found) return rename(partial, target);
  if ((await readdir(target)).length === 0) {
    await rmdir(target);
    return rename(partial, target);
  }
  const old = `${partial}-replaced`;
  await rename(target, old);
  await rename(partial, target).catch(async (error: unknown) => {
    await rename(old, target);
    throw error;
  });
  await rm(old, { recursive: true });
}
