import { CheckpointError } from '../layers/errors';

/** A count of the format, which has 64 bits: a number where JavaScript counts exactly, a bigint from 2^53. */
export type Count = number | bigint;

const MAX_COUNT: bigint = 2n ** 64n - 1n;

/**
 * Bytes of a tensor, with the overflow check of the safetensors crate: products are taken in 64 bits, from left to right, so that a zero comes too late
 * behind two dimensions of 2^32.
 * @throws CheckpointError `SIZE_OVERFLOW`, `PARTIAL_BYTE`
 */
export function byteSize(shape: readonly Count[], bits: number, where: string): Count {
  let product: Count = 1;
  for (const dimension of shape) product = times(product, dimension, shape, where);
  product = times(product, bits, shape, where);
  if (BigInt(product) % 8n !== 0n) {
    throw new CheckpointError(
      'PARTIAL_BYTE',
      `${where}: shape ${shownShape(shape)} of ${bits}-bit elements ends inside a byte. Check where the shape comes from, or pad it.`,
    );
  }
  const bytes = BigInt(product) / 8n;
  return bytes <= Number.MAX_SAFE_INTEGER ? Number(bytes) : bytes;
}

/** A count from its digits; undefined for what is none: `2.0`, `2e0`, `-0`, 2^64. */
export function parseCount(digits: string): Count | undefined {
  if (!/^[0-9]+$/.test(digits)) return undefined;
  const rounded = Number(digits);
  if (Number.isSafeInteger(rounded)) return rounded;
  const exact = BigInt(digits);
  return exact > MAX_COUNT ? undefined : exact;
}

/** A shape as messages show it, however long. */
export function shownShape(shape: readonly Count[]): string {
  const more = shape.length > 16 ? `, … ${shape.length - 16} more` : '';
  return `[${shape.slice(0, 16).join(', ')}${more}]`;
}

function times(a: Count, b: Count, shape: readonly Count[], where: string): Count {
  const rounded = Number(a) * Number(b);
  if (Number.isSafeInteger(rounded)) return rounded;
  const product = BigInt(a) * BigInt(b);
  if (product > MAX_COUNT)
    throw new CheckpointError(
      'SIZE_OVERFLOW',
      `${where}: the size of shape ${shownShape(shape)} does not fit into 64 bits. Check where the shape comes from.`,
    );
  return product;
}
