import { fromFloat32 } from '../../weights/dtype';

/** Values that repeat after so many; what is read is as much as without that. */
const PERIOD = 4096;

/** Values between -1 and 1 as a checkpoint stores them. */
export function randomBytes(dtype: 'F32' | 'BF16' | 'F16', count: number): Uint8Array {
  const values = Float32Array.from({ length: PERIOD }, () => 2 * Math.random() - 1);
  const piece = dtype === 'F32' ? new Uint8Array(values.buffer) : fromFloat32(dtype, values).bytes;
  const result = new Uint8Array((count / PERIOD) * piece.length);
  for (let start = 0; start < result.length; start += piece.length) result.set(piece, start);
  return result;
}
