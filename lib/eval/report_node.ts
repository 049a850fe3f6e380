import { plottedRows } from './plot_points';
import { accuracyPlot } from './plots_node';
import { type DrawnPlot, reportPage } from './report';
import type { Summary } from './summary';
import { markdown, summaryTables } from './table';

/** The files of a report by name: a page that stands alone, its plots as SVG, and its tables in Markdown. */
export async function reportFiles(summary: Summary, about: readonly string[]): Promise<Readonly<Record<string, string>>> {
  const rows = plottedRows(summary);
  const timed = summary.cells.some(({ time }) => time !== undefined);
  const tokens = await accuracyPlot(summary, 'tokens');
  const time = timed ? await accuracyPlot(summary, 'time') : undefined;
  const small: DrawnPlot[] = [];
  for (const row of rows) small.push({ svg: await accuracyPlot(summary, 'tokens', row), caption: row });
  const levels = 'Broken line: all tokens; dotted: without the image.';
  const bars = `Bars are 95% intervals (${summary.interval}).`;
  const plots = [
    { svg: tokens, caption: `${bars} ${levels}` },
    ...(time === undefined
      ? []
      : [{ svg: time, caption: `${bars} Times are medians of a question asked alone, nothing shared; bars along them are quartiles. ${levels}` }]),
  ];
  return {
    'index.html': reportPage(summary, { about, plots, small }),
    'tables.md': `${[about.join('\n\n'), ...summaryTables(summary).map((table) => `## ${table.title}\n\n${markdown(table)}`)].join('\n\n')}`,
    'accuracy-tokens.svg': tokens,
    ...(time === undefined ? {} : { 'accuracy-time.svg': time }),
  };
}
