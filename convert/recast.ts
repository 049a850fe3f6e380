import { bytesOf, type Dtype, type FloatDtype, fromFloat32, isFloat, toFloat32 } from '../weights/dtype';
import { findNotFinite, notFinite } from '../weights/finite';
import { overflow } from '../weights/safetensors_write';
import type { ConvertedTensor } from './plan';

/** Elements converted at a time: what lies in memory beside the tensor, and how long an abort waits, stay small. */
const CHUNK = 2 ** 20;

/**
 * A tensor's bytes in the precision planned for it: rounded to nearest, ties to even; F64 by way of F32.
 * @throws CheckpointError `F16_OVERFLOW`, `BF16_OVERFLOW`, `F32_OVERFLOW` when finite values would become infinite; `NOT_FINITE` on request
 */
export async function recast(
  tensor: ConvertedTensor,
  bytes: Uint8Array,
  options: { where: string; checkFinite: boolean; signal?: AbortSignal },
): Promise<Uint8Array> {
  const { storedDtype: from, dtype: to } = tensor;
  if (!isFloat(from) || (from === to && !options.checkFinite)) return bytes;
  const source = bytesOf(from);
  const target = bytesOf(to as Dtype);
  const count = bytes.byteLength / source;
  const result = from === to ? bytes : new Uint8Array(count * target);
  let overflows = 0;
  for (let start = 0; start < count; start += CHUNK) {
    options.signal?.throwIfAborted();
    const end = Math.min(start + CHUNK, count);
    const part = bytes.subarray(start * source, end * source);
    const damage = options.checkFinite ? findNotFinite({ name: tensor.stored, dtype: from }, part, start) : undefined;
    if (damage !== undefined) throw notFinite(options.where, [damage]);
    if (from === to) continue;
    const values = toFloat32(from, part);
    if (from === 'F64') overflows += narrowed(part, values);
    const encoded = fromFloat32(to as FloatDtype, values);
    overflows += encoded.overflows;
    result.set(encoded.bytes, start * target);
    if (end < count) await new Promise((resolve) => setImmediate(resolve));
  }
  if (overflows > 0) throw overflow(tensor.stored, overflows, to as FloatDtype);
  return result;
}

/** Finite float64 values that float32 can't hold. */
function narrowed(bytes: Uint8Array, values: Float32Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return values.reduce((sum, value, i) => sum + (Number.isFinite(value) || !Number.isFinite(view.getFloat64(i * 8, true)) ? 0 : 1), 0);
}
