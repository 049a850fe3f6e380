import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import { OutputError } from '../../layers/errors';

/** Writes a result to stdout, unless the command was interrupted. */
export function print(text: string, signal: AbortSignal): void {
  if (!signal.aborted) process.stdout.write(text);
}

const NUMBERS = /\[\n\s+(-?[\d.e+-]+(?:,\n\s+-?[\d.e+-]+)*)\n\s+\]/g;

/** Typed arrays as arrays. */
const plain = (_: string, item: unknown) => (ArrayBuffer.isView(item) ? Array.from(item as Int32Array) : item);

/** Prints one JSON value on a line of its own, for output of which each line is one. */
export function printJsonLine(value: unknown, signal: AbortSignal): void {
  print(`${JSON.stringify(value, plain)}\n`, signal);
}

/** Prints one JSON value, indented; numbers of an array on one line. */
export function printJson(value: unknown, signal: AbortSignal): void {
  const text = JSON.stringify(value, plain, 2).replace(NUMBERS, (_, numbers: string) => `[${numbers.replace(/\s+/g, ' ')}]`);
  print(`${text}\n`, signal);
}

/**
 * Writes a file under a temporary name beside it and renames it, so that nobody sees half of it; nothing is left behind on failure.
 * @throws OutputError `WRITE_FAILED`; the signal's reason when it is aborted
 */
export async function writeWhole(file: string, bytes: Uint8Array | string, signal: AbortSignal): Promise<void> {
  const temporary = `${file}.partial-${process.pid}`;
  try {
    await mkdir(path.dirname(path.resolve(file)), { recursive: true });
    await writeFile(temporary, bytes, { signal });
    signal.throwIfAborted();
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true });
    signal.throwIfAborted();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new OutputError('WRITE_FAILED', `${file} can't be written: ${reason}. Check the folder, its permissions and the free space.`, { cause });
  }
}

/** A table with aligned columns: to the right, but those whose numbers are in `left` to the left. */
export function table(header: readonly string[], rows: readonly (readonly string[])[], left: readonly number[] = [0]): string {
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (left.includes(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return `${[line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n')}\n`;
}

const SI = ['', 'K', 'M', 'G', 'T', 'P'];
const IEC = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function scaled(value: number, base: number, units: readonly string[], largest: number, digits: number): string {
  const unit = largest < base ? 0 : Math.min(units.length - 1, Math.floor(Math.log(largest) / Math.log(base)));
  return `${(value / base ** unit).toFixed(unit === 0 ? 0 : digits)} ${units[unit]}`.trim();
}

/** 1.23 M, by thousands; in the unit that suits `largest`, so that a column has one. */
export function count(value: number, largest: number = value): string {
  return scaled(value, 1000, SI, largest, 2);
}

/** 1.23 MiB, by 1024. */
export function bytes(value: number, largest: number = value): string {
  return scaled(value, 1024, IEC, largest, 2);
}
