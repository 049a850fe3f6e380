import type * as tf from '@tensorflow/tfjs';
import { CheckpointError } from '../layers/errors';
import { bitsOf, type Dtype, type FloatDtype, fromFloat32 } from './dtype';
import { quoted } from './json_text';
import { MAX_HEADER, PREFIX } from './safetensors_header';
import { byteSize, shownShape } from './tensor_size';

/** A tensor as bytes, given at once or made when it is its turn: so a file larger than memory can be written. */
export interface StoredTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array | (() => Promise<Uint8Array>);
}

export type TensorEntries = ReadonlyMap<string, tf.Tensor | StoredTensor> | Readonly<Record<string, tf.Tensor | StoredTensor>>;
export type Metadata = ReadonlyMap<string, string> | Readonly<Record<string, string>>;

export interface WriteOptions {
  /** How float32 tensors of TensorFlow.js are stored; F32 unless given. Values beyond F16's range are an error. */
  readonly dtype?: FloatDtype;
  readonly signal?: AbortSignal;
}

/** A file laid out: its first bytes, then the tensors in order. */
export interface FilePlan {
  /** Length field and header, padded with spaces so that the data begin at a multiple of 8. */
  readonly header: Uint8Array;
  readonly tensors: readonly PlannedTensor[];
  /** Bytes of the whole file. */
  readonly size: number;
}

export interface PlannedTensor {
  readonly name: string;
  readonly byteLength: number;
  /** @throws CheckpointError `F16_OVERFLOW`, `SIZE_MISMATCH` */
  bytes(): Promise<Uint8Array>;
}

/**
 * Lays out a safetensors file. The order is the official writer's: widest elements first, then by name, so that every tensor is aligned and the same
 * tensors always give the same bytes.
 * @throws CheckpointError `BAD_NAME`, `UNKNOWN_DTYPE`, `BAD_DIMENSION`, `PARTIAL_BYTE`, `HEADER_TOO_LARGE`
 */
export function planFile(entries: TensorEntries, metadata: Metadata = {}, dtype: FloatDtype = 'F32'): FilePlan {
  const sorted = pairs(entries)
    .map(([name, tensor]) => ({ name, tensor: isStored(tensor) ? tensor : stored(name, tensor, dtype) }))
    .sort((a, b) => (bitsOf(b.tensor.dtype) ?? 0) - (bitsOf(a.tensor.dtype) ?? 0) || (a.name < b.name ? -1 : 1));
  const fields: string[] = [];
  const strings = pairs(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  if (strings.length > 0) {
    fields.push(`"__metadata__":{${strings.map(([key, value]) => `${quote(key)}:${quote(value)}`).join(',')}}`);
  }
  const tensors: PlannedTensor[] = [];
  let end = 0;
  for (const { name, tensor } of sorted) {
    if (name === '__metadata__') throw new CheckpointError('BAD_NAME', 'A tensor can\'t be called "__metadata__": the format keeps that name.');
    const byteLength = sizeOf(name, tensor);
    fields.push(`${quote(name)}:{"dtype":"${tensor.dtype}","shape":[${tensor.shape.join(',')}],"data_offsets":[${end},${end + byteLength}]}`);
    tensors.push({ name, byteLength, bytes: () => exactBytes(name, tensor, byteLength) });
    end += byteLength;
  }
  const header = encodeHeader(`{${fields.join(',')}}`);
  return { header, tensors, size: header.byteLength + end };
}

/**
 * A safetensors file in memory, for small files and for pages; `writeSafetensors` of Node streams to disk.
 * @throws what `planFile` and its tensors throw
 */
export async function encodeSafetensors(entries: TensorEntries, metadata?: Metadata, options: WriteOptions = {}): Promise<Uint8Array> {
  const plan = planFile(entries, metadata, options.dtype);
  const file = new Uint8Array(plan.size);
  file.set(plan.header);
  let offset = plan.header.byteLength;
  for (const tensor of plan.tensors) {
    options.signal?.throwIfAborted();
    file.set(await tensor.bytes(), offset);
    offset += tensor.byteLength;
  }
  return file;
}

function pairs<T>(entries: ReadonlyMap<string, T> | Readonly<Record<string, T>>): [string, T][] {
  return entries instanceof Map ? [...entries] : Object.entries(entries);
}

function isStored(tensor: tf.Tensor | StoredTensor): tensor is StoredTensor {
  return 'bytes' in tensor && !('dataId' in tensor);
}

function stored(name: string, tensor: tf.Tensor, dtype: FloatDtype): StoredTensor {
  const { shape } = tensor;
  if (tensor.dtype === 'float32') {
    return {
      dtype,
      shape,
      bytes: async () => {
        const { bytes, overflows } = fromFloat32(dtype, (await tensor.data()) as Float32Array);
        if (overflows > 0) throw overflow(name, overflows, dtype);
        return bytes;
      },
    };
  }
  if (tensor.dtype === 'int32') return { dtype: 'I32' satisfies Dtype, shape, bytes: async () => asBytes(Int32Array.from(await tensor.data())) };
  if (tensor.dtype === 'bool') return { dtype: 'BOOL' satisfies Dtype, shape, bytes: async () => Uint8Array.from(await tensor.data()) };
  throw new CheckpointError('UNSUPPORTED_DTYPE', `Tensor "${name}" is ${tensor.dtype}; float32, int32 and bool can be written.`);
}

const OVERFLOW = { F32: 'F32_OVERFLOW', F16: 'F16_OVERFLOW', BF16: 'BF16_OVERFLOW' } as const;

/** The error for finite values that a narrower type can't hold. */
export function overflow(name: string, count: number, dtype: FloatDtype): CheckpointError {
  const limit = dtype === 'F16' ? '65504' : '3.39e38';
  return new CheckpointError(
    OVERFLOW[dtype],
    `Tensor "${name}": ${count} finite value(s) lie beyond ${limit}, the largest of ${dtype}, and would become infinite. Write ${dtype === 'F16' ? 'BF16 or F32' : 'F32'} instead.`,
  );
}

function asBytes(values: Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

async function exactBytes(name: string, tensor: StoredTensor, byteLength: number): Promise<Uint8Array> {
  const bytes = typeof tensor.bytes === 'function' ? await tensor.bytes() : tensor.bytes;
  if (bytes.byteLength === byteLength) return bytes;
  throw new CheckpointError(
    'SIZE_MISMATCH',
    `Tensor "${name}": shape [${tensor.shape.join(', ')}] of ${tensor.dtype} takes ${byteLength} bytes, but ${bytes.byteLength} were given.`,
  );
}

function sizeOf(name: string, { dtype, shape }: StoredTensor): number {
  const where = `Tensor ${quoted(name)}`;
  const bits = bitsOf(dtype);
  if (bits === undefined) throw new CheckpointError('UNKNOWN_DTYPE', `${where}: dtype ${quoted(dtype)} is none of the safetensors format's.`);
  if (shape.some((dimension) => !Number.isSafeInteger(dimension) || dimension < 0)) {
    throw new CheckpointError('BAD_DIMENSION', `${where}: shape ${shownShape(shape)} must hold non-negative integers.`);
  }
  const size = byteSize(shape, bits, where);
  if (typeof size === 'number') return size;
  throw new CheckpointError('BAD_DIMENSION', `${where}: shape ${shownShape(shape)} of ${dtype} takes ${size} bytes, more than can be counted.`);
}

/** JSON of a string. A lone surrogate can't be written: readers refuse it. */
function quote(text: string): string {
  if (/\p{Surrogate}/u.test(text))
    throw new CheckpointError('BAD_NAME', `The name ${JSON.stringify(text)} holds a lone surrogate, which UTF-8 can't write.`);
  return JSON.stringify(text);
}

function encodeHeader(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const length = Math.ceil(text.byteLength / 8) * 8;
  if (length > MAX_HEADER) {
    throw new CheckpointError('HEADER_TOO_LARGE', `The header takes ${length} bytes; readers allow ${MAX_HEADER}. Write several files (shards).`);
  }
  const header = new Uint8Array(PREFIX + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(text, PREFIX);
  return header;
}
