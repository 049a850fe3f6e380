import type { ByteSource } from './byte_source';

/** SHA-256 of all bytes of a source, as 64 hexadecimal digits. A page has no way to hash in pieces, so the whole file is in memory meanwhile. */
export async function sha256(source: ByteSource, options: { progress?: (bytes: number) => void; signal?: AbortSignal } = {}): Promise<string> {
  const bytes = await source.read(0, source.size, options.signal);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
  options.progress?.(bytes.byteLength);
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
