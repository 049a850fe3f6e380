import { createHash } from 'node:crypto';
import type { ByteSource } from './byte_source';

/** Bytes read at a time. */
const CHUNK = 8 * 2 ** 20;

/** SHA-256 of all bytes of a source, as 64 hexadecimal digits. `progress` is told the bytes of each step. */
export async function sha256(source: ByteSource, options: { progress?: (bytes: number) => void; signal?: AbortSignal } = {}): Promise<string> {
  const hash = createHash('sha256');
  for (let offset = 0; offset < source.size; offset += CHUNK) {
    const bytes = await source.read(offset, Math.min(CHUNK, source.size - offset), options.signal);
    hash.update(bytes);
    options.progress?.(bytes.byteLength);
  }
  return hash.digest('hex');
}
