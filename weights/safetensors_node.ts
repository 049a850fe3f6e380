import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { type CheckpointError, OutputError } from '../layers/errors';
import type { ByteSource } from './byte_source';
import { fileError, openFile } from './byte_source_node';
import { checkOptionNames, type OptionNames } from './option_names';
import { openSafetensors, type SafetensorsFile } from './safetensors';
import { type FilePlan, type Metadata, planFile, type TensorEntries, type WriteOptions } from './safetensors_write';

/** Bytes of one write; Node allows no more than 2 GiB. */
const CHUNK = 64 * 2 ** 20;

/**
 * Opens a safetensors file, by path or from any ByteSource; only the header is read.
 *
 * `const file = await readSafetensors('model.safetensors'); file.names; const t = await file.tensor('lm_head.weight'); await file.close();`
 * @throws CheckpointError, one code for each rule of the format and for what the file system refuses
 */
export async function readSafetensors(file: string | ByteSource, signal?: AbortSignal): Promise<SafetensorsFile> {
  return openSafetensors(typeof file === 'string' ? await openFile(file) : file, signal);
}

const WRITE_OPTIONS: OptionNames<WriteOptions> = { dtype: true, signal: true };

/**
 * Writes a safetensors file, tensor by tensor, under a temporary name beside it that becomes `path` only when all is on disk: whoever sees `path` sees a whole file.
 *
 * `await writeSafetensors('model.safetensors', {weight}, {format: 'pt'}, {dtype: 'BF16'});`
 * @throws CheckpointError `F16_OVERFLOW`, `BAD_NAME`, …; OutputError `WRITE_FAILED`; the signal's reason when it is aborted. Nothing is left behind.
 */
export async function writeSafetensors(path: string, tensors: TensorEntries, metadata?: Metadata, options: WriteOptions = {}): Promise<void> {
  checkOptionNames(options, WRITE_OPTIONS, 'writeSafetensors');
  const plan = planFile(tensors, metadata, options.dtype);
  const temporary = `${path}.partial-${process.pid}-${Date.now().toString(36)}`;
  let handle: FileHandle;
  try {
    handle = await open(temporary, 'wx');
  } catch (cause) {
    throw writeFailed(path, cause);
  }
  try {
    await writePlan(handle, plan, path, options.signal);
    await rename(temporary, path).catch((cause: unknown) => {
      throw writeFailed(path, cause);
    });
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writePlan(handle: FileHandle, plan: FilePlan, path: string, signal?: AbortSignal): Promise<void> {
  try {
    await writeAll(handle, plan.header, path);
    for (const tensor of plan.tensors) {
      signal?.throwIfAborted();
      await writeAll(handle, await tensor.bytes(), path);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, path: string): Promise<void> {
  try {
    let done = 0;
    while (done < bytes.byteLength) done += (await handle.write(bytes, done, Math.min(CHUNK, bytes.byteLength - done))).bytesWritten;
  } catch (cause) {
    throw writeFailed(path, cause);
  }
}

function writeFailed(path: string, cause: unknown): CheckpointError | OutputError {
  const known = fileError(path, cause);
  if (known.code === 'IS_DIRECTORY') return known;
  return new OutputError('WRITE_FAILED', `${path}: can't be written (${String(cause)}). Check the folder, its permissions and the free space.`, {
    cause,
  });
}
