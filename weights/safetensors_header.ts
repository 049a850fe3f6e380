import { type CheckpointCode, CheckpointError } from '../layers/errors';
import { bitsOf } from './dtype';
import { type JsonNode, JsonTextError, parseJsonText } from './json_text';

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

/** Bytes of the length field before the header. */
export const PREFIX = 8;
/** The official reader's limit. */
export const MAX_HEADER = 100_000_000;

const U64 = 2n ** 64n;

/**
 * The length of the header from the file's first 8 bytes.
 * @throws CheckpointError `HEADER_TOO_LARGE`, `HEADER_PAST_END`
 */
export function headerLength(prefix: Uint8Array, fileSize: number, file: string): number {
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER)) {
    throw new CheckpointError(
      'HEADER_TOO_LARGE',
      `${file}: its first 8 bytes give a header of ${length} bytes; at most ${MAX_HEADER} are allowed. It is probably not a safetensors file.`,
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
 * Reads and checks a header by the rules of the official safetensors crate.
 *
 * Differs from the reference: refuses what the format's text forbids though the crate 0.8 lets it pass (a tensor or a metadata key given twice, an
 * entry written as a list, a dtype written as an object), and dimensions from 2^53, which JavaScript can't count (only a tensor without elements can have one).
 *
 * @param fileSize bytes of the whole file
 * @throws CheckpointError with a code for each rule, see the tests
 */
export function parseHeader(bytes: Uint8Array, fileSize: number, file: string): SafetensorsHeader {
  const dataStart = PREFIX + bytes.byteLength;
  const root = parseText(decode(bytes, file), file);
  if (root.kind !== 'object') throw new CheckpointError('HEADER_NOT_OBJECT', `${file}: the header is ${describe(root)}; it must be a JSON object.`);
  let metadata: ReadonlyMap<string, string> | undefined;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, node] of root.entries) {
    if (name === '__metadata__') {
      if (metadata) throw duplicate(file, 'the header', name);
      metadata = parseMetadata(node, file);
    } else {
      if (tensors.has(name)) throw duplicate(file, 'the header', name);
      tensors.set(name, parseEntry(name, node, dataStart, file));
    }
  }
  const sorted = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  checkLayout(sorted, dataStart, fileSize, file);
  return { metadata: metadata ?? new Map(), tensors: sorted };
}

function decode(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError('HEADER_NOT_UTF8', `${file}: the header is not UTF-8. The file is damaged or is not a safetensors file.`, { cause });
  }
}

function parseText(text: string, file: string): JsonNode {
  try {
    return parseJsonText(text);
  } catch (cause) {
    if (!(cause instanceof JsonTextError)) throw cause;
    throw new CheckpointError('HEADER_NOT_JSON', `${file}: the header is not JSON: ${cause.message} (character ${cause.position}).`, { cause });
  }
}

function parseMetadata(node: JsonNode, file: string): ReadonlyMap<string, string> {
  if (node.kind === 'literal' && node.value === null) return new Map();
  if (node.kind !== 'object') {
    throw new CheckpointError('METADATA_NOT_STRINGS', `${file}: __metadata__ is ${describe(node)}; it must be an object of strings.`);
  }
  const metadata = new Map<string, string>();
  for (const [key, value] of node.entries) {
    if (metadata.has(key)) throw duplicate(file, '__metadata__', key);
    if (value.kind !== 'string') {
      throw new CheckpointError(
        'METADATA_NOT_STRINGS',
        `${file}: __metadata__ holds ${describe(value)} under "${key}"; every value must be a string.`,
      );
    }
    metadata.set(key, value.value);
  }
  return metadata;
}

function parseEntry(name: string, node: JsonNode, dataStart: number, file: string): TensorInfo {
  const where = `${file}: tensor "${name}"`;
  if (node.kind !== 'object') {
    throw new CheckpointError(
      'ENTRY_NOT_OBJECT',
      `${where}: its entry is ${describe(node)}; it must be an object with dtype, shape and data_offsets.`,
    );
  }
  const fields = new Map<string, JsonNode>();
  for (const [key, value] of node.entries) {
    if (fields.has(key) && (key === 'dtype' || key === 'shape' || key === 'data_offsets'))
      throw duplicate(file, `the entry of tensor "${name}"`, key);
    fields.set(key, value);
  }
  const field = (key: string): JsonNode => {
    const value = fields.get(key);
    if (!value) throw new CheckpointError('ENTRY_FIELD_MISSING', `${where}: its entry has no "${key}".`);
    return value;
  };

  const dtype = field('dtype');
  if (dtype.kind !== 'string') throw new CheckpointError('ENTRY_FIELD_TYPE', `${where}: dtype is ${describe(dtype)}; it must be a string.`);
  const bits = bitsOf(dtype.value);
  if (bits === undefined) throw new CheckpointError('UNKNOWN_DTYPE', `${where}: dtype "${dtype.value}" is none of the safetensors format's.`);

  const dimensions = integers(field('shape'), 'shape', 'BAD_DIMENSION', where);
  const offsets = integers(field('data_offsets'), 'data_offsets', 'BAD_OFFSETS', where);
  const [begin, end] = offsets;
  if (offsets.length !== 2 || begin === undefined || end === undefined) {
    throw new CheckpointError('BAD_OFFSETS', `${where}: data_offsets has ${offsets.length} numbers; it must have 2, begin and end.`);
  }
  if (end < begin) throw new CheckpointError('BAD_OFFSETS', `${where}: data_offsets are reversed: it ends at ${end} and begins at ${begin}.`);
  const size = byteSize(dimensions, bits, where);
  if (end - begin !== size) {
    throw new CheckpointError(
      'SIZE_MISMATCH',
      `${where}: shape [${dimensions.join(', ')}] of ${dtype.value} takes ${size} bytes, but data_offsets [${begin}, ${end}] hold ${end - begin}.`,
    );
  }
  for (const dimension of dimensions) safe(dimension, 'BAD_DIMENSION', `${where}: dimension`);
  return {
    name,
    dtype: dtype.value,
    shape: dimensions.map(Number),
    offset: dataStart + safe(begin, 'BAD_OFFSETS', `${where}: offset`),
    byteLength: safe(size, 'BAD_OFFSETS', `${where}: size`),
  };
}

/** The non-negative integers of an array, by their source text: `2.0`, `2e0` and `-0` are none. */
function integers(node: JsonNode, field: string, code: CheckpointCode, where: string): bigint[] {
  if (node.kind !== 'array')
    throw new CheckpointError('ENTRY_FIELD_TYPE', `${where}: ${field} is ${describe(node)}; it must be an array of integers.`);
  return node.items.map((item) => {
    if (item.kind !== 'number') throw new CheckpointError('ENTRY_FIELD_TYPE', `${where}: ${field} holds ${describe(item)}; it must hold integers.`);
    const value = /^[0-9]+$/.test(item.source) ? BigInt(item.source) : -1n;
    if (value < 0n || value >= U64) {
      throw new CheckpointError(
        code,
        `${where}: ${field} holds ${item.source}; it must hold integers from 0 to 2^64 - 1, written without sign, point or exponent.`,
      );
    }
    return value;
  });
}

/** Bytes of a tensor, with the overflow check of the crate: products are taken in 64 bits, from left to right. */
function byteSize(dimensions: readonly bigint[], bits: number, where: string): bigint {
  let product = 1n;
  for (const factor of [...dimensions, BigInt(bits)]) {
    product *= factor;
    if (product >= U64) {
      throw new CheckpointError('SIZE_OVERFLOW', `${where}: the size of shape [${dimensions.join(', ')}] does not fit into 64 bits.`);
    }
  }
  if (product % 8n !== 0n) {
    throw new CheckpointError('PARTIAL_BYTE', `${where}: shape [${dimensions.join(', ')}] of ${bits}-bit elements ends inside a byte.`);
  }
  return product / 8n;
}

function safe(value: bigint, code: CheckpointCode, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new CheckpointError(code, `${what} ${value} is above 2^53 - 1, more than JavaScript can count.`);
  return Number(value);
}

/** Each tensor begins where the one before ended, and the last one ends with the file. */
function checkLayout(sorted: readonly TensorInfo[], dataStart: number, fileSize: number, file: string): void {
  let expected = dataStart;
  let before = 'the header';
  for (const { name, offset, byteLength } of sorted) {
    if (offset < expected) {
      throw new CheckpointError('TENSOR_OVERLAP', `${file}: tensor "${name}" begins at byte ${offset}, before ${before} ends at ${expected}.`);
    }
    if (offset > expected) {
      throw new CheckpointError(
        'TENSOR_HOLE',
        `${file}: tensor "${name}" begins at byte ${offset}, but ${before} ends at ${expected}: bytes between belong to nothing.`,
      );
    }
    expected = offset + byteLength;
    before = `"${name}"`;
  }
  if (expected < fileSize) {
    throw new CheckpointError('TRAILING_BYTES', `${file}: the last tensor ends at byte ${expected}, but the file has ${fileSize} bytes.`);
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
    `${file}: ${where} has the key "${key}" twice. Which one is meant can't be known: write the file again.`,
  );
}

function describe(node: JsonNode): string {
  switch (node.kind) {
    case 'number':
      return `the number ${node.source}`;
    case 'string':
      return `the string ${JSON.stringify(node.value)}`;
    case 'literal':
      return String(node.value);
    case 'array':
      return 'an array';
    default:
      return 'an object';
  }
}
