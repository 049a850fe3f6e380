import type { Grade, Method } from './method';
import { createPruner, METHODS, type PruneOptions } from './registry';

const GRADES: Readonly<Record<Grade, string>> = {
  exact: "every step and constant is that of the authors' code, but for the differences listed",
  paper: "the algorithm is the paper's, some constants are ours",
  sketch: 'only the idea is public',
  ours: 'a baseline of our own',
};

/** `docs/methods.md`, from what each method says of itself. */
export function methodsPage(): string {
  const methods = Object.entries(METHODS) as [string, Method<PruneOptions>][];
  return `${INTRODUCTION}
${table([HEADER, ...methods.map(([name, method]) => cells(name, method))])}

Grades: ${Object.entries(GRADES)
    .map(([grade, meaning]) => `_${grade}_, ${meaning}`)
    .join('; ')}.
Budgets are compared by entering tokens, averaged over blocks: \`createPruner(options).enteringTokens(N, L)\`.

${methods.map(([name, method]) => section(name, method)).join('\n\n')}
`;
}

const INTRODUCTION = `<!-- Written by "npm run docs:methods" from lib/prune; edit the methods there. -->
# Pruning methods

\`{ prune: { method, … } }\` goes with every request; on the command line, \`--prune method:option=value\`. \`tokens\` (kept per crop; more than a crop has patches is an
error) or \`keepRatio\` (round(N * keepRatio), halves up, at least one) is the budget T of methods that choose once; those that work in stages have lists or ratios. A
method of your own is an object with the interface \`Pruner\`, passed in the same place.

N: patches of a crop. L: decoder blocks. _compact_ positions are counted anew over what is left; _keep_ leaves every token its own, with gaps.
`;

const HEADER = ['method', 'acts', 'reads', 'training', 'positions', 'depends on the question', 'visual tokens entering each block', 'grade'];

function cells(name: string, { about, example }: Method<PruneOptions>): string[] {
  const { positions, textDependent } = createPruner(example);
  return [`\`${name}\``, about.acts, about.reads, about.training ?? 'none', positions, textDependent ? 'yes' : 'no', about.entering, about.grade];
}

/** A Markdown table with its columns aligned, as the formatter wants it. The first row is the header. */
function table(rows: readonly string[][]): string {
  const widths = HEADER.map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  const lines = rows.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] as number)).join(' | ')} |`);
  lines.splice(1, 0, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`);
  return lines.join('\n');
}

function section(name: string, { about, example, options }: Method<PruneOptions>): string {
  const differences =
    about.differences.length > 0 ? `\n\nDiffers from its source:\n\n${about.differences.map((item) => `- ${item}`).join('\n')}` : '';
  const named = options.length > 0 ? options.map((option) => `\`${option}\``).join(', ') : 'none';
  return `## ${about.title}: \`${name}\`

Example: \`${literal(example)}\`. Options: ${named}.
Source: ${about.source}.${differences}`;
}

/** Plain data as one would type it. */
function literal(options: PruneOptions): string {
  const fields = Object.entries(options).map(([key, value]) => `${key}: ${typeof value === 'string' ? `'${value}'` : JSON.stringify(value)}`);
  return `{ ${fields.join(', ')} }`;
}
