import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { DataError } from '../../layers/errors';
import type { ImageRecord } from './records';
import type { Results, ResultsHeader } from './results';

/**
 * A results file that grows by a line an image: an evaluation that was interrupted goes on behind what it holds.
 */
export class ResultsFile {
  private constructor(
    private readonly file: string,
    /** What it held when it was opened. */
    readonly records: readonly ImageRecord[],
  ) {}

  /**
   * Opens a file to go on with, or begins it. A last line that an interruption cut off is dropped.
   * @param fresh write it anew, whatever it holds
   * @throws DataError `RESULTS_OTHER` when it holds results of something else, `RESULTS_DAMAGED`
   */
  static async open(file: string, header: ResultsHeader, fresh: boolean): Promise<ResultsFile> {
    await mkdir(path.dirname(path.resolve(file)), { recursive: true });
    const { lines, bytes } = fresh ? { lines: [], bytes: 0 } : await wholeLines(file);
    const [first, ...rest] = lines;
    if (first === undefined) {
      await writeFile(file, `${JSON.stringify(header)}\n`);
      return new ResultsFile(file, []);
    }
    checkSame(parseHeader(file, first), header, file);
    await truncate(file, bytes);
    return new ResultsFile(file, parseRecords(file, rest));
  }

  async append(record: ImageRecord): Promise<void> {
    await appendFile(this.file, `${JSON.stringify(record)}\n`);
  }
}

/** @throws DataError `RESULTS_MISSING`, `RESULTS_DAMAGED` */
export async function readResults(file: string): Promise<Results> {
  const [first, ...rest] = (await wholeLines(file)).lines;
  if (first === undefined) {
    throw new DataError('RESULTS_MISSING', `${file} is not there or empty. Give a file that "vispruner eval --results" wrote.`);
  }
  return { header: parseHeader(file, first), records: parseRecords(file, rest) };
}

/** Lines that end, and how many bytes they take. */
async function wholeLines(file: string): Promise<{ readonly lines: readonly string[]; readonly bytes: number }> {
  try {
    const content = await readFile(file);
    const bytes = content.lastIndexOf('\n') + 1;
    return { lines: content.subarray(0, bytes).toString('utf8').split('\n').slice(0, -1), bytes };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { lines: [], bytes: 0 };
    throw new DataError('RESULTS_MISSING', `${file} can't be read: ${String(cause)}. Give a file.`, { cause });
  }
}

function parseHeader(file: string, line: string): ResultsHeader {
  const header = parseLine<ResultsHeader>(file, line, 1);
  if (header.format === 'vispruner-eval 1') return header;
  throw damaged(file, 1, `its format is ${JSON.stringify(header.format)}, not "vispruner-eval 1"`);
}

/** One record an image: of an image that two processes wrote, the first. */
function parseRecords(file: string, lines: readonly string[]): ImageRecord[] {
  const records = new Map<number, ImageRecord>();
  for (const [i, line] of lines.entries()) {
    const record = parseLine<ImageRecord>(file, line, i + 2);
    if (!Number.isInteger(record.image) || !Array.isArray(record.questions)) throw damaged(file, i + 2, 'it is no record of an image');
    if (!records.has(record.image)) records.set(record.image, record);
  }
  return [...records.values()];
}

function parseLine<T extends object>(file: string, line: string, number: number): T {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw damaged(file, number, `it is not JSON: ${shortened(line)}`);
  }
  if (typeof value !== 'object' || value === null) throw damaged(file, number, `it is ${shortened(line)}`);
  return value as T;
}

function damaged(file: string, line: number, problem: string): DataError {
  return new DataError('RESULTS_DAMAGED', `${file}, line ${line}: ${problem}. Remove the line, or use --fresh.`);
}

/** @throws DataError `RESULTS_OTHER` */
function checkSame(found: ResultsHeader, header: ResultsHeader, file: string): void {
  const keys = [...new Set([...Object.keys(found), ...Object.keys(header)])] as (keyof ResultsHeader)[];
  const other = keys.find((key) => key !== 'machine' && JSON.stringify(found[key]) !== JSON.stringify(header[key]));
  if (other === undefined) return;
  const [is, wanted] =
    other === 'conditions' ? differentKeys(found, header) : [found[other], header[other]].map((value) => JSON.stringify(value) ?? 'absent');
  throw new DataError(
    'RESULTS_OTHER',
    `${file} holds results with other ${other}: ${shortened(is ?? '')} there, ${shortened(wanted ?? '')} now. Give another --results FILE, or --fresh to write it anew.`,
  );
}

/** What either has alone; where that is nothing, the same names stand for other options. */
function differentKeys(a: ResultsHeader, b: ResultsHeader): [string, string] {
  const [mine, theirs] = [a, b].map(({ conditions }) => conditions.map(({ key }) => key)) as [string[], string[]];
  const only = (keys: readonly string[], others: readonly string[]): string =>
    keys.filter((key) => !others.includes(key)).join(', ') || 'nothing more';
  return [only(mine, theirs), only(theirs, mine)];
}

function shortened(text: string): string {
  return text.length > 160 ? `${text.slice(0, 157)}...` : text;
}

/** Of everything that a model's directory says what the model is by. */
export async function weightsDigest(directory: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for (const file of (await readdir(directory)).sort()) {
    if (!/\.(safetensors|json|jinja)$/.test(file)) continue;
    hash.update(file);
    for await (const chunk of createReadStream(path.join(directory, file), { signal, highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  }
  return hash.digest('hex').slice(0, 16);
}

/** What times are measured on, on a line. */
export function machineName(): string {
  const cores = os.cpus();
  return `${cores[0]?.model.trim()}, ${cores.length} cores, Node ${process.version}, ${process.platform} ${process.arch}`;
}
