import * as tf from '@tensorflow/tfjs';
import { CheckpointError, StateError } from '../layers/errors';
import type { ByteSource } from './byte_source';
import { type Dtype, isFloat, isReadable, toFloat32, toNumbers } from './dtype';
import { headerLength, PREFIX, parseHeader, type TensorInfo } from './safetensors_header';

export type { TensorInfo } from './safetensors_header';

const LFS_POINTER = 'version https://git-lfs.github.com/';

/** A safetensors file whose header was read and checked; tensors are read when asked for. */
export class SafetensorsFile {
  /** In the order of their bytes in the file. */
  readonly names: readonly string[];
  private readonly infos: ReadonlyMap<string, TensorInfo>;
  private closed = false;

  constructor(
    private readonly source: ByteSource,
    tensors: readonly TensorInfo[],
    readonly metadata: ReadonlyMap<string, string>,
  ) {
    this.names = tensors.map((info) => info.name);
    this.infos = new Map(tensors.map((info) => [info.name, info]));
  }

  /** The file's path or URL. */
  get name(): string {
    return this.source.name;
  }

  has(name: string): boolean {
    return this.infos.has(name);
  }

  /** @throws CheckpointError `NO_SUCH_TENSOR` */
  info(name: string): TensorInfo {
    const info = this.infos.get(name);
    if (!info) throw new CheckpointError('NO_SUCH_TENSOR', `${this.name}: has no tensor "${name}" among its ${this.names.length}.`);
    return info;
  }

  /**
   * The bytes as they are stored: little-endian, row by row.
   * @throws CheckpointError `FILE_SHRANK`; StateError `DISPOSED`; the signal's reason when it is aborted
   */
  async bytes(name: string, signal?: AbortSignal): Promise<Uint8Array> {
    const { offset, byteLength } = this.info(name);
    if (this.closed) throw new StateError('DISPOSED', `${this.name}: was closed. Read its tensors before close().`);
    return this.source.read(offset, byteLength, signal);
  }

  /**
   * A tensor, which the caller disposes. F32, F16, BF16 and F64 become float32 (F64 rounded, the halves exactly), BOOL becomes bool, and integers
   * become int32.
   * @throws CheckpointError `UNSUPPORTED_DTYPE` (F8, F6, F4, C64: read their `bytes`); `INTEGER_OUT_OF_RANGE` when a U32, I64 or U64 value does not
   * fit into int32; what `bytes` throws
   */
  async tensor(name: string, signal?: AbortSignal): Promise<tf.Tensor> {
    const info = this.info(name);
    const dtype = readableDtype(info, this.name);
    return toTensor(dtype, info.shape, await this.bytes(name, signal), `${this.name}: tensor "${name}"`);
  }

  /** Closes the file. Idempotent. */
  async close(): Promise<void> {
    this.closed = true;
    await this.source.close();
  }
}

/**
 * Reads and checks the header of a safetensors file; takes the source over and closes it on failure.
 *
 * `const file = await openSafetensors(blobSource(blob)); const weight = await file.tensor('lm_head.weight');`
 * @throws CheckpointError, one code for each rule of the format
 */
export async function openSafetensors(source: ByteSource, signal?: AbortSignal): Promise<SafetensorsFile> {
  try {
    if (source.size < PREFIX) {
      throw new CheckpointError(
        'FILE_TOO_SHORT',
        `${source.name}: has ${source.size} bytes; a safetensors file has at least ${PREFIX}. Get it again.`,
      );
    }
    const start = await source.read(0, Math.min(source.size, LFS_POINTER.length), signal);
    refuseLfsPointer(start, source.name);
    const length = headerLength(start, source.size, source.name);
    const header = parseHeader(await source.read(PREFIX, length, signal), source.size, source.name);
    return new SafetensorsFile(source, header.tensors, header.metadata);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** @throws CheckpointError `UNSUPPORTED_DTYPE` */
export function readableDtype(info: TensorInfo, file: string): Dtype {
  if (isReadable(info.dtype)) return info.dtype;
  throw new CheckpointError(
    'UNSUPPORTED_DTYPE',
    `${file}: tensor "${info.name}" is ${info.dtype}, which safetensors knows but this package can't compute with. Convert it to F32, F16 or BF16 first.`,
  );
}

function refuseLfsPointer(start: Uint8Array, file: string): void {
  if (new TextDecoder('latin1').decode(start) !== LFS_POINTER) return;
  throw new CheckpointError('GIT_LFS_POINTER', `${file}: is a git-LFS pointer, not the file itself. Run "git lfs pull" in its repository.`);
}

function toTensor(dtype: Dtype, shape: readonly number[], bytes: Uint8Array, where: string): tf.Tensor {
  if (isFloat(dtype)) return tf.tensor(toFloat32(dtype, bytes), [...shape], 'float32');
  const values = toNumbers(dtype, bytes);
  if (dtype === 'BOOL') return tf.tensor(values as Uint8Array, [...shape], 'bool');
  const integers = Int32Array.from(values);
  if (dtype === 'I64' || dtype === 'U64' || dtype === 'U32') {
    const wrong = integers.findIndex((value, index) => value !== values[index]);
    if (wrong >= 0) {
      throw new CheckpointError(
        'INTEGER_OUT_OF_RANGE',
        `${where}: element ${wrong} is ${values[wrong]}, which does not fit into int32, the only integer type of TensorFlow.js. Read its bytes.`,
      );
    }
  }
  return tf.tensor(integers, [...shape], 'int32');
}
