import { type CheckpointCode, CheckpointError } from '../layers/errors';
import { bitsOf } from './dtype';
import { JsonCursor, JsonTextError, quoted, shortened } from './json_text';
import { byteSize, type Count, parseCount, shownShape } from './tensor_size';

/** Where a tensor lies and what it is. */
export interface TensorInfo {
  readonly name: string;
  /** As the file spells it. `isReadable` tells whether values can be read; the bytes always can. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their bytes in the file. */
  readonly tensors: readonly TensorInfo[];
}

/** What a header says of a tensor, its integers not yet judged. */
interface Entry {
  dtype: string;
  shape: readonly Count[];
  data_offsets: readonly Count[];
}

const FIELDS: readonly (keyof Entry)[] = ['dtype', 'shape', 'data_offsets'];

function isField(key: string): key is keyof Entry {
  return FIELDS.some((field) => field === key);
}

/** Bytes of the length field before the header. */
export const PREFIX = 8;
/** What to do about a file that breaks the format's rules. */
const AGAIN = 'Get the file again, or write it again with a current safetensors package.';
/** The official reader's limit. */
export const MAX_HEADER = 100_000_000;

/**
 * The length of the header from the file's first 8 bytes.
 * @throws CheckpointError `HEADER_TOO_LARGE`, `HEADER_PAST_END`
 */
export function headerLength(prefix: Uint8Array, fileSize: number, file: string): number {
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER)) {
    throw new CheckpointError(
      'HEADER_TOO_LARGE',
      `${file}: its first 8 bytes give a header of ${length} bytes; at most ${MAX_HEADER} are allowed. It is probably not a safetensors file: get the right one.`,
    );
  }
  if (PREFIX + Number(length) > fileSize) {
    throw new CheckpointError(
      'HEADER_PAST_END',
      `${file}: the header should end at byte ${PREFIX + Number(length)}, but the file has ${fileSize} bytes. It was cut, or is not a safetensors file: get it again.`,
    );
  }
  return Number(length);
}

/**
 * Reads and checks a header by the rules of the official safetensors crate (0.8), in time and memory proportional to its length.
 *
 * Differs from the reference: refuses what the format's text forbids though the crate lets it pass (a tensor or a metadata key given twice, an entry
 * written as a list), and dimensions from 2^53, which JavaScript can't count (only a tensor without elements can have one). `npm run fuzz` compares.
 *
 * @param fileSize bytes of the whole file
 * @throws CheckpointError with a code for each rule, see the tests
 */
export function parseHeader(bytes: Uint8Array, fileSize: number, file: string): SafetensorsHeader {
  const dataStart = PREFIX + bytes.byteLength;
  const cursor = new JsonCursor(decode(bytes, file));
  const metadata: ReadonlyMap<string, string>[] = [];
  const entries = new Map<string, Entry>();
  try {
    if (cursor.kind() !== 'object') {
      throw new CheckpointError('HEADER_NOT_OBJECT', `${file}: the header is ${cursor.describe()}; it must be a JSON object. ${AGAIN}`);
    }
    cursor.object((name) => {
      if (name === '__metadata__') {
        if (metadata.length > 0) throw duplicate(file, 'the header', name);
        metadata.push(readMetadata(cursor, file));
      } else {
        if (entries.has(name)) throw duplicate(file, 'the header', name);
        entries.set(name, readEntry(name, cursor, file));
      }
    });
    cursor.end();
  } catch (cause) {
    if (!(cause instanceof JsonTextError)) throw cause;
    throw new CheckpointError('HEADER_NOT_JSON', `${file}: the header is not JSON: ${cause.message} (character ${cause.position}). ${AGAIN}`, {
      cause,
    });
  }
  const tensors = Array.from(entries, ([name, entry]) => checkEntry(name, entry, dataStart, file));
  const sorted = tensors.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  checkLayout(sorted, dataStart, fileSize, file);
  return { metadata: metadata[0] ?? new Map(), tensors: sorted };
}

function decode(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError('HEADER_NOT_UTF8', `${file}: the header is not UTF-8. The file is damaged or is not a safetensors file. ${AGAIN}`, {
      cause,
    });
  }
}

function readMetadata(cursor: JsonCursor, file: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  const kind = cursor.kind();
  if (kind === 'null') cursor.skip();
  else if (kind !== 'object') {
    throw new CheckpointError('METADATA_NOT_STRINGS', `${file}: __metadata__ is ${cursor.describe()}; it must be an object of strings. ${AGAIN}`);
  } else {
    cursor.object((key) => {
      if (cursor.kind() !== 'string') {
        throw new CheckpointError(
          'METADATA_NOT_STRINGS',
          `${file}: __metadata__ holds ${cursor.describe()} under ${quoted(key)}; every value must be a string. ${AGAIN}`,
        );
      }
      const before = metadata.size;
      if (metadata.set(key, cursor.string()).size === before) throw duplicate(file, '__metadata__', key);
    });
  }
  return metadata;
}

/** What an entry says, of the right types; whether it can be true is asked when the whole header is known to be readable. */
function readEntry(name: string, cursor: JsonCursor, file: string): Entry {
  const where = `${file}: tensor ${quoted(name)}`;
  if (cursor.kind() !== 'object') {
    throw new CheckpointError(
      'ENTRY_NOT_OBJECT',
      `${where}: its entry is ${cursor.describe()}; it must be an object with dtype, shape and data_offsets. ${AGAIN}`,
    );
  }
  const entry: Partial<Entry> = {};
  cursor.object((key) => {
    if (!isField(key)) cursor.skip();
    else if (entry[key] !== undefined) throw duplicate(file, `the entry of tensor ${quoted(name)}`, key);
    else if (key === 'dtype') entry.dtype = readDtype(cursor, where);
    else if (key === 'shape') entry.shape = readIntegers(cursor, key, 'BAD_DIMENSION', where);
    else entry.data_offsets = readIntegers(cursor, key, 'BAD_OFFSETS', where);
  });
  for (const key of FIELDS) {
    if (entry[key] === undefined) throw new CheckpointError('ENTRY_FIELD_MISSING', `${where}: its entry has no "${key}". ${AGAIN}`);
  }
  const { dtype, data_offsets: offsets } = entry as Entry;
  if (bitsOf(dtype) === undefined)
    throw new CheckpointError('UNKNOWN_DTYPE', `${where}: dtype ${quoted(dtype)} is none of the safetensors format's. ${AGAIN}`);
  if (offsets.length !== 2) {
    throw new CheckpointError('BAD_OFFSETS', `${where}: data_offsets has ${offsets.length} numbers; it must have 2, begin and end. ${AGAIN}`);
  }
  return entry as Entry;
}

function checkEntry(name: string, { dtype, shape, data_offsets }: Entry, dataStart: number, file: string): TensorInfo {
  const where = `${file}: tensor ${quoted(name)}`;
  const [begin, end] = data_offsets as readonly [Count, Count];
  safe(begin, 'BAD_OFFSETS', `${where}: offset`);
  safe(end, 'BAD_OFFSETS', `${where}: offset`);
  if (end < begin)
    throw new CheckpointError('BAD_OFFSETS', `${where}: data_offsets are reversed: it ends at ${end} and begins at ${begin}. ${AGAIN}`);
  const size = byteSize(shape, bitsOf(dtype) as number, where);
  if (size !== end - begin) {
    throw new CheckpointError(
      'SIZE_MISMATCH',
      `${where}: shape ${shownShape(shape)} of ${dtype} takes ${size} bytes, but data_offsets [${begin}, ${end}] hold ${end - begin}. ${AGAIN}`,
    );
  }
  for (const dimension of shape) safe(dimension, 'BAD_DIMENSION', `${where}: dimension`);
  return { name, dtype, shape: shape as number[], offset: dataStart + begin, byteLength: size };
}

/** A dtype's name. The crate's JSON library reads `{"F32": null}` as "F32" too. */
function readDtype(cursor: JsonCursor, where: string): string {
  const kind = cursor.kind();
  if (kind === 'string') return cursor.string();
  const names: string[] = [];
  if (kind === 'object') {
    cursor.object((key) => {
      names.push(cursor.kind() === 'null' ? key : '');
      cursor.skip();
    });
  }
  const [name] = names;
  if (!name || names.length > 1) {
    throw new CheckpointError(
      'ENTRY_FIELD_TYPE',
      `${where}: dtype is ${kind === 'object' ? 'an object' : cursor.describe()}; it must be a string. ${AGAIN}`,
    );
  }
  return name;
}

/** The non-negative integers of an array, by their source text: `2.0`, `2e0` and `-0` are none. */
function readIntegers(cursor: JsonCursor, field: string, code: CheckpointCode, where: string): Count[] {
  if (cursor.kind() !== 'array') {
    throw new CheckpointError('ENTRY_FIELD_TYPE', `${where}: ${field} is ${cursor.describe()}; it must be an array of integers. ${AGAIN}`);
  }
  const values: Count[] = [];
  cursor.array(() => {
    if (cursor.kind() !== 'number') {
      throw new CheckpointError('ENTRY_FIELD_TYPE', `${where}: ${field} holds ${cursor.describe()}; it must hold integers. ${AGAIN}`);
    }
    const source = cursor.number();
    const value = parseCount(source);
    if (value === undefined) {
      throw new CheckpointError(
        code,
        `${where}: ${field} holds ${shortened(source)}; it must hold integers from 0 to 2^64 - 1, written without sign, point or exponent. ${AGAIN}`,
      );
    }
    values.push(value);
  });
  return values;
}

function safe(value: Count, code: CheckpointCode, what: string): asserts value is number {
  if (typeof value === 'bigint') throw new CheckpointError(code, `${what} ${value} is above 2^53 - 1, more than JavaScript can count. ${AGAIN}`);
}

/** Each tensor begins where the one before ended, and the last one ends with the file. */
function checkLayout(sorted: readonly TensorInfo[], dataStart: number, fileSize: number, file: string): void {
  let expected = dataStart;
  let before = 'the header';
  for (const { name, offset, byteLength } of sorted) {
    if (offset < expected) {
      throw new CheckpointError(
        'TENSOR_OVERLAP',
        `${file}: tensor ${quoted(name)} begins at byte ${offset}, before ${before} ends at ${expected}. ${AGAIN}`,
      );
    }
    if (offset > expected) {
      throw new CheckpointError(
        'TENSOR_HOLE',
        `${file}: tensor ${quoted(name)} begins at byte ${offset}, but ${before} ends at ${expected}: bytes between belong to nothing. ${AGAIN}`,
      );
    }
    expected = offset + byteLength;
    before = quoted(name);
  }
  if (expected < fileSize) {
    throw new CheckpointError('TRAILING_BYTES', `${file}: the last tensor ends at byte ${expected}, but the file has ${fileSize} bytes. ${AGAIN}`);
  }
  if (expected > fileSize) {
    throw new CheckpointError(
      'FILE_TRUNCATED',
      `${file}: the last tensor ends at byte ${expected}, but the file has only ${fileSize} bytes. Get it again.`,
    );
  }
}

function duplicate(file: string, where: string, key: string): CheckpointError {
  return new CheckpointError(
    'DUPLICATE_KEY',
    `${file}: ${where} has the key ${quoted(key)} twice. Which one is meant can't be known: write the file again.`,
  );
}
