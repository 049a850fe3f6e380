import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ImageError } from '../../../layers/errors';

const FIXTURES = join(__dirname, '../../fixtures');

export function imagePath(name: string): string {
  return join(FIXTURES, 'images', name);
}

export function imageJson<T>(name: string): T {
  return JSON.parse(readFileSync(imagePath(name), 'utf8')) as T;
}

export function preprocessPath(name: string): string {
  return join(FIXTURES, 'preprocess', name);
}

export function fromBase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'));
}

/** uint8 tensors of a safetensors file. */
export function readBytesOf(path: string): Map<string, { shape: number[]; data: Uint8Array }> {
  const file = readFileSync(path);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, start).toString()) as Record<string, { shape: number[]; data_offsets: [number, number] }>;
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, { shape, data_offsets }]) => [
        name,
        { shape, data: new Uint8Array(file.subarray(start + data_offsets[0], start + data_offsets[1])) },
      ]),
  );
}

/** The first byte that differs, for a readable failure; undefined if none does. */
export function firstDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): string | undefined {
  if (actual.length !== expected.length) return `${actual.length} values instead of ${expected.length}`;
  for (let i = 0; i < expected.length; i++) if (actual[i] !== expected[i]) return `value ${i} is ${actual[i]} instead of ${expected[i]}`;
  return undefined;
}

/** What a promise was rejected with, as `code: message`; fails if it was no ImageError. */
export async function imageErrorOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => new Error('nothing was thrown'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ImageError)) throw error;
  return `${error.code}: ${error.message}`;
}

/** A PNG's chunks as [type, whole chunk], to build broken ones. */
export function pngChunks(file: Buffer): [string, Buffer][] {
  const chunks: [string, Buffer][] = [];
  for (let offset = 8; offset < file.length; ) {
    const end = offset + 12 + file.readUInt32BE(offset);
    chunks.push([file.toString('latin1', offset + 4, offset + 8), file.subarray(offset, end)]);
    offset = end;
  }
  return chunks;
}

/** Checksum of PNG chunks, so that a forged header is a valid one. */
export function withChecksum(chunk: Buffer): Buffer {
  let checksum = 0xffffffff;
  for (const byte of chunk.subarray(4, -4)) {
    checksum ^= byte;
    for (let bit = 0; bit < 8; bit++) checksum = (checksum >>> 1) ^ (checksum & 1 ? 0xedb88320 : 0);
  }
  const copy = Buffer.from(chunk);
  copy.writeUInt32BE((checksum ^ 0xffffffff) >>> 0, copy.length - 4);
  return copy;
}
