import type { Summary } from './summary';
import { summaryTables, type TextTable } from './table';

/** A plot with what it shows. */
export interface DrawnPlot {
  readonly svg: string;
  readonly caption: string;
}

export interface ReportParts {
  /** Lines on what was asked, and where. */
  readonly about: readonly string[];
  readonly plots: readonly DrawnPlot[];
  /** One small plot a method. */
  readonly small: readonly DrawnPlot[];
}

/** A page that stands alone: plots and tables of a run. */
export function reportPage(summary: Summary, { about, plots, small }: ReportParts): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pruning methods on ${escaped(summary.header.data.name)}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 76rem; margin: 1.5rem auto; padding: 0 1rem; }
figure { margin: 1.5rem 0; overflow-x: auto; }
figcaption { color: #444; max-width: 60rem; }
.small { display: flex; flex-wrap: wrap; gap: 0.5rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
</style>
</head>
<body>
<h1>Pruning methods on ${escaped(summary.header.data.name)}</h1>
${about.map((line) => `<p>${escaped(line)}</p>`).join('\n')}
${plots.map(({ svg, caption }) => `<figure>\n${svg}<figcaption>${escaped(caption)}</figcaption>\n</figure>`).join('\n')}
<h2>Each method</h2>
<div class="small">
${small.map(({ svg }) => svg).join('')}</div>
${summaryTables(summary).map(tableHtml).join('\n')}
</body>
</html>
`;
}

function tableHtml({ title, rows: [head = [], ...body] }: TextTable): string {
  const row = (cells: readonly string[], tag: string): string => `<tr>${cells.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;
  return `<h2>${escaped(title)}</h2>
<div class="table"><table>
<thead>${row(head, 'th')}</thead>
<tbody>
${body.map((cells) => row(cells, 'td')).join('\n')}
</tbody>
</table></div>`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
