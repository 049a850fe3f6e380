import type { Results } from '../eval/results';
import { type Summary, summarize } from '../eval/summary';
import { summaryTables } from '../eval/table';
import { print, printJson, table, writeWhole } from './output';

export interface OutputFlags {
  /** A file, or stdout in place of the tables. */
  readonly json?: string | true;
}

/** Prints the tables of a run, and writes what else was asked for. */
export async function printSummary(results: Results, { json }: OutputFlags, signal: AbortSignal): Promise<void> {
  const summary = summarize(results);
  if (typeof json === 'string') await writeWhole(json, `${JSON.stringify(summary, null, 2)}\n`, signal);
  if (json === true) {
    printJson(summary, signal);
    return;
  }
  const tables = summaryTables(summary).map(({ title, rows: [head = [], ...body] }) => `${title}\n\n${table(head, body)}`);
  print(`${describe(summary)}\n\n${tables.join('\n')}`, signal);
}

/** One line on what was asked, one on where. */
function describe({ header, images, questions }: Summary): string {
  const { data, weights, dtype, backend, machine, conditions } = header;
  return [
    `${questions} questions about ${images} images of ${data.name}, ${conditions.length} conditions; weights ${weights}, held in ${dtype}`,
    `${machine}, backend ${backend}`,
  ].join('\n');
}
