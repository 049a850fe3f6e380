import { CheckpointError } from '../layers/errors';
import { bytesOf, type Dtype, firstNotFinite, toFloat32 } from './dtype';

/** Tensors that one error lists. */
const LISTED = 12;

/** Says which element of a stored tensor, or of the part of it that begins at element `start`, is the first that is NaN or infinite, if any is. */
export function findNotFinite(tensor: { readonly name: string; readonly dtype: Dtype }, bytes: Uint8Array, start = 0): string | undefined {
  const wrong = firstNotFinite(tensor.dtype, bytes);
  if (wrong < 0) return undefined;
  const size = bytesOf(tensor.dtype);
  const [value] = toFloat32(tensor.dtype, bytes.slice(wrong * size, (wrong + 1) * size));
  return `element ${start + wrong} of "${tensor.name}" is ${value}`;
}

/**
 * @param where the file or checkpoint
 * @param found what `findNotFinite` said of each tensor that is damaged
 */
export function notFinite(where: string, found: readonly string[]): CheckpointError {
  const more = found.length > LISTED ? `, and so in ${found.length - LISTED} more tensors` : '';
  return new CheckpointError(
    'NOT_FINITE',
    `${where}: ${found.slice(0, LISTED).join('; ')}${more}. The weights are damaged, or their training diverged: get them again (without the check they can still be used).`,
  );
}
