import { crc32 } from 'node:zlib';
import { CheckpointError } from '../../layers/errors';
import { memorySource } from '../../weights/byte_source';
import { openSafetensors } from '../../weights/safetensors';

/** What a reader makes of a file: why it refuses it, or all that it reads, in an order that depends on the file alone. */
export type Verdict = { readonly refused: string } | { readonly contents: string };

/** A tensor as verdicts know it: name, dtype, shape, bytes, and the CRC-32 of the bytes. */
export type ReadTensor = readonly [name: string, dtype: string, shape: readonly number[], byteLength: number, crc: number];

/** Names that JavaScript and Python order alike need not be; the text sorts them by UTF-16 unit. */
export function contentsText(metadata: Iterable<readonly [string, string]>, tensors: readonly ReadTensor[]): string {
  const byName = (a: readonly [string, ...unknown[]], b: readonly [string, ...unknown[]]): number => (a[0] < b[0] ? -1 : 1);
  return JSON.stringify({ metadata: [...metadata].sort(byName), tensors: [...tensors].sort(byName) });
}

/** Our reader's verdict: the code is `refused`, and the error comes with it. An error that is none of ours is thrown on. */
export async function ownVerdict(file: Uint8Array): Promise<Verdict & { readonly error?: CheckpointError }> {
  try {
    const opened = await openSafetensors(memorySource(file, 'file'));
    const tensors: ReadTensor[] = [];
    for (const name of opened.names) {
      const { dtype, shape, byteLength } = opened.info(name);
      tensors.push([name, dtype, shape, byteLength, crc32(await opened.bytes(name))]);
    }
    return { contents: contentsText(opened.metadata, tensors) };
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    return { refused: error.code, error };
  }
}

/** Every code by which a safetensors file is refused when it is opened. */
export const REFUSALS = [
  'FILE_TOO_SHORT',
  'GIT_LFS_POINTER',
  'HEADER_TOO_LARGE',
  'HEADER_PAST_END',
  'HEADER_NOT_UTF8',
  'HEADER_NOT_JSON',
  'HEADER_NOT_OBJECT',
  'DUPLICATE_KEY',
  'METADATA_NOT_STRINGS',
  'ENTRY_NOT_OBJECT',
  'ENTRY_FIELD_MISSING',
  'ENTRY_FIELD_TYPE',
  'UNKNOWN_DTYPE',
  'BAD_DIMENSION',
  'BAD_OFFSETS',
  'SIZE_OVERFLOW',
  'PARTIAL_BYTE',
  'SIZE_MISMATCH',
  'TENSOR_OVERLAP',
  'TENSOR_HOLE',
  'TRAILING_BYTES',
  'FILE_TRUNCATED',
] as const;

/** Why we refuse, on purpose, what the official reader takes. */
export const GROUNDS: readonly (readonly [what: string, code: string, message: RegExp])[] = [
  ['a tensor name given twice', 'DUPLICATE_KEY', /: the header has the key /],
  ['a metadata key given twice', 'DUPLICATE_KEY', /: __metadata__ has the key /],
  ['an entry written as a list', 'ENTRY_NOT_OBJECT', /: its entry is an array/],
  ["a dimension from 2^53, which JavaScript can't count", 'BAD_DIMENSION', /: dimension [0-9]+ is above 2\^53 - 1/],
];

/** The ground of a refusal of ours, if it is one of those. */
export function groundOf(error: CheckpointError): string | undefined {
  return GROUNDS.find(([, code, message]) => code === error.code && message.test(error.message))?.[0];
}

export type Outcome = 'accepted' | 'refused' | 'disagreement' | (typeof GROUNDS)[number][0];

/** Compares our verdict with the official reader's. */
export async function compare(file: Uint8Array, official: Verdict): Promise<{ outcome: Outcome; own: Verdict }> {
  const { error, ...own } = await ownVerdict(file);
  if (!error)
    return { outcome: 'contents' in own && 'contents' in official && own.contents === official.contents ? 'accepted' : 'disagreement', own };
  if ('refused' in official) return { outcome: 'refused', own };
  return { outcome: (groundOf(error) as Outcome | undefined) ?? 'disagreement', own };
}
