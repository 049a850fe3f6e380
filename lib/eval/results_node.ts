import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
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
    const lines = fresh ? [] : await wholeLines(file);
    if (lines.length === 0) {
      await writeFile(file, `${JSON.stringify(header)}\n`);
      return new ResultsFile(file, []);
    }
    const found = parseLine<ResultsHeader>(file, lines[0] as string, 1);
    const other = differing(found, header);
    if (other !== undefined) {
      const [is, wanted] =
        other === 'conditions' ? differentKeys(found, header) : [found[other], header[other]].map((value) => JSON.stringify(value) ?? 'absent');
      throw new DataError(
        'RESULTS_OTHER',
        `${file} holds results with other ${other}: ${shortened(is ?? '')} there, ${shortened(wanted ?? '')} now. Give another --results FILE, or --fresh to write it anew.`,
      );
    }
    await writeFile(file, `${lines.join('\n')}\n`);
    return new ResultsFile(
      file,
      lines.slice(1).map((line, i) => parseLine<ImageRecord>(file, line, i + 2)),
    );
  }

  async append(record: ImageRecord): Promise<void> {
    await appendFile(this.file, `${JSON.stringify(record)}\n`);
  }
}

/** @throws DataError `RESULTS_MISSING`, `RESULTS_DAMAGED` */
export async function readResults(file: string): Promise<Results> {
  const [first, ...rest] = await wholeLines(file);
  if (first === undefined)
    throw new DataError('RESULTS_MISSING', `${file} is not there or empty. Give a file that "vispruner eval --results" wrote.`);
  const header = parseLine<ResultsHeader>(file, first, 1);
  if (header.format !== 'vispruner-eval 1') {
    throw new DataError(
      'RESULTS_DAMAGED',
      `${file} does not begin as a results file does: its format is ${JSON.stringify(header.format)}, not "vispruner-eval 1".`,
    );
  }
  return { header, records: rest.map((line, i) => parseLine<ImageRecord>(file, line, i + 2)) };
}

async function wholeLines(file: string): Promise<string[]> {
  try {
    return (await readFile(file, 'utf8')).split('\n').slice(0, -1);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new DataError('RESULTS_MISSING', `${file} can't be read: ${String(cause)}. Give a file.`, { cause });
  }
}

function parseLine<T>(file: string, line: string, number: number): T {
  try {
    return JSON.parse(line) as T;
  } catch (cause) {
    throw new DataError('RESULTS_DAMAGED', `${file}, line ${number} is not JSON: ${shortened(line)}. Remove the line, or use --fresh.`, { cause });
  }
}

function differing(a: ResultsHeader, b: ResultsHeader): keyof ResultsHeader | undefined {
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])] as (keyof ResultsHeader)[];
  return keys.find((key) => key !== 'machine' && JSON.stringify(a[key]) !== JSON.stringify(b[key]));
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
