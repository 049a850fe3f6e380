import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import * as path from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw } from 'node:zlib';
import { BackendError } from '../../../../layers/errors';

// As much of the zip format as wheels need: no zip64, no encryption (APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.16).

interface Entry {
  readonly name: string;
  readonly stored: boolean;
  readonly size: number;
  readonly packedSize: number;
  readonly offset: number;
  /** Of a file that was packed on Unix. */
  readonly mode: number;
}

const END = { size: 22, longestComment: 0xffff } as const;
const DIRECTORY = { signature: 0x02014b50, size: 46 } as const;
const LOCAL_SIZE = 30;
const [STORED, DEFLATED] = [0, 8];

export interface ExtractOptions {
  readonly wanted: (name: string) => boolean;
  readonly progress?: (bytes: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Writes the wanted files of a zip into a folder, under their names. @throws BackendError `NATIVE_INSTALL` where it is none */
export async function extract(archive: string, folder: string, { wanted, progress, signal }: ExtractOptions): Promise<void> {
  const entries = (await directory(archive)).filter(({ name }) => !name.endsWith('/') && wanted(name));
  const total = entries.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  const counted = () =>
    new Transform({
      transform(chunk: Buffer, _, next) {
        done += chunk.length;
        progress?.(done, total);
        next(null, chunk);
      },
    });
  for (const entry of entries) {
    const target = path.join(folder, entry.name);
    if (!target.startsWith(folder + path.sep)) throw damaged(archive, `"${entry.name}" would be written outside of ${folder}`);
    await mkdir(path.dirname(target), { recursive: true });
    const start = await dataOffset(archive, entry);
    const packed = createReadStream(archive, { start, end: Math.max(start, start + entry.packedSize - 1) });
    const output = createWriteStream(target, { mode: entry.mode || 0o644 });
    if (entry.packedSize === 0) output.end();
    else if (entry.stored) await pipeline(packed, counted(), output, { signal });
    else await pipeline(packed, createInflateRaw(), counted(), output, { signal });
  }
}

async function directory(archive: string): Promise<Entry[]> {
  const file = await open(archive);
  try {
    const { size } = await file.stat();
    const tail = Buffer.alloc(Math.min(size, END.size + END.longestComment));
    await file.read(tail, 0, tail.length, size - tail.length);
    const end = tail.lastIndexOf(Buffer.from([0x50, 0x4b, 0x05, 0x06]));
    if (end < 0) throw damaged(archive, 'it has no directory');
    const list = Buffer.alloc(tail.readUInt32LE(end + 12));
    await file.read(list, 0, list.length, tail.readUInt32LE(end + 16));
    return [...entriesOf(archive, list)];
  } finally {
    await file.close();
  }
}

function* entriesOf(archive: string, list: Buffer): Generator<Entry> {
  for (let at = 0; at < list.length; ) {
    if (list.readUInt32LE(at) !== DIRECTORY.signature) throw damaged(archive, 'its directory is broken');
    const method = list.readUInt16LE(at + 10);
    if (method !== STORED && method !== DEFLATED) throw damaged(archive, `it is packed by method ${method}`);
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => list.readUInt16LE(at + field)) as [number, number, number];
    const next = at + DIRECTORY.size + nameLength + extraLength + commentLength;
    yield {
      name: list.toString('utf8', at + DIRECTORY.size, at + DIRECTORY.size + nameLength),
      stored: method === STORED,
      packedSize: list.readUInt32LE(at + 20),
      size: list.readUInt32LE(at + 24),
      offset: list.readUInt32LE(at + 42),
      mode: (list.readUInt32LE(at + 38) >>> 16) & 0o777,
    };
    at = next;
  }
}

/** The local header repeats the name, with extra fields of its own length. */
async function dataOffset(archive: string, { offset }: Entry): Promise<number> {
  const file = await open(archive);
  try {
    const header = Buffer.alloc(LOCAL_SIZE);
    await file.read(header, 0, LOCAL_SIZE, offset);
    return offset + LOCAL_SIZE + header.readUInt16LE(26) + header.readUInt16LE(28);
  } finally {
    await file.close();
  }
}

function damaged(archive: string, reason: string): BackendError {
  return new BackendError('NATIVE_INSTALL', `${archive} can't be unpacked: ${reason}. Get it again.`);
}
