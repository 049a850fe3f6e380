import * as path from 'node:path';
import { reportFiles } from '../eval/report_node';
import type { Results } from '../eval/results';
import { type Summary, summarize } from '../eval/summary';
import { summaryTables } from '../eval/table';
import { print, printJson, table, writeWhole } from './output';

export interface OutputFlags {
  /** A file, or stdout in place of the tables. */
  readonly json?: string | true;
  /** A folder for the page and its plots. */
  readonly report?: string;
}

/** Prints the tables of a run, and writes what else was asked for. */
export async function printSummary(results: Results, { json, report }: OutputFlags, signal: AbortSignal): Promise<void> {
  const summary = summarize(results);
  if (typeof json === 'string') await writeWhole(json, `${JSON.stringify(summary, null, 2)}\n`, signal);
  if (report !== undefined) {
    for (const [name, text] of Object.entries(await reportFiles(summary, describe(summary)))) await writeWhole(path.join(report, name), text, signal);
  }
  if (json === true) {
    printJson(summary, signal);
    return;
  }
  const tables = summaryTables(summary).map(({ title, rows: [head = [], ...body] }) => `${title}\n\n${table(head, body)}`);
  print(`${describe(summary).join('\n')}\n\n${tables.join('\n')}`, signal);
}

/** One line on what was asked, one on where. */
function describe({ header, images, questions }: Summary): string[] {
  const { data, weights, dtype, backend, machine, conditions } = header;
  return [
    `${questions} questions about ${images} images of ${data.name}, ${conditions.length} conditions; weights ${weights}, held in ${dtype}`,
    `${machine}, backend ${backend}`,
  ];
}
