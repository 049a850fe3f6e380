import { brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib';
import type { Verdict } from './verdict';

export interface RecordedCase {
  readonly file: Uint8Array;
  readonly official: Verdict;
}

/** Files and the official reader's verdicts in one compressed block: each file behind its length, then the contents behind theirs (none: refused). */
export function encodeCases(cases: readonly RecordedCase[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const { file, official } of cases) {
    for (const bytes of [file, Buffer.from('contents' in official ? official.contents : '')]) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.byteLength);
      parts.push(length, bytes);
    }
  }
  return brotliCompressSync(Buffer.concat(parts), { params: { [constants.BROTLI_PARAM_LGWIN]: 24 } });
}

export function decodeCases(encoded: Uint8Array): RecordedCase[] {
  const bytes = brotliDecompressSync(encoded);
  const cases: RecordedCase[] = [];
  let offset = 0;
  const next = (): Buffer => {
    const begin = offset + 4;
    offset = begin + bytes.readUInt32LE(offset);
    return bytes.subarray(begin, offset);
  };
  while (offset < bytes.length) {
    const file = next();
    const contents = next().toString();
    cases.push({ file, official: contents === '' ? { refused: 'by the official reader' } : { contents } });
  }
  return cases;
}
