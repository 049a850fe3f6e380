import type { Unreachable } from './conditions';
import { type Estimate, wilson } from './interval';
import { isNear } from './method_budget';
import type { Metric } from './metric';
import type { Cell, Summary } from './summary';

/** A table as text: its first row is the head. */
export interface TextTable {
  readonly title: string;
  readonly rows: readonly (readonly string[])[];
}

/** `91.2 (89.9-92.3)`: a percentage with its 95% interval, or points. */
export function shown({ value, low, high }: Estimate, unit: Metric['unit']): string {
  if (Number.isNaN(value)) return '-';
  return `${inUnit(value, unit)} (${inUnit(low, unit)}-${inUnit(high, unit)})`;
}

function inUnit(value: number, unit: Metric['unit']): string {
  return unit === 'share' ? (100 * value).toFixed(1) : value.toFixed(0);
}

function percentOf(share: number): string {
  return `${+(100 * share).toFixed(1)}%`;
}

/** The tables of a run: by budget, by group, each seed, further figures, times. Those with nothing in them are left out. */
export function summaryTables(summary: Summary): TextTable[] {
  const tables = [budgetTable(summary), differenceTable(summary), groupTable(summary), seedTable(summary), detailTable(summary), timeTable(summary)];
  return tables.filter((one): one is TextTable => one !== undefined);
}

/** A table in Markdown. */
export function markdown({ rows }: TextTable): string {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...body.map(line), ''].join('\n');
}

interface Layout {
  readonly budgets: readonly number[];
  readonly rows: readonly string[];
  /** Visual tokens at a budget: of all that enter unpruned, the share. */
  readonly tokens: (budget: number) => number;
  readonly cell: (row: string, budget: number) => Cell | undefined;
}

function layoutOf({ cells, header }: Summary): Layout {
  const reached = [...cells, ...header.unreachable].filter(({ budget }) => budget !== undefined && budget < 1);
  const all = cells.find(({ row }) => row === 'all')?.entering ?? 0;
  return {
    budgets: [...new Set(reached.map(({ budget }) => budget as number))].sort((a, b) => b - a),
    rows: [...new Set(reached.map(({ row }) => row))],
    tokens: (budget) => Math.max(1, Math.round(budget * all)),
    cell: (row, budget) => cells.find((one) => one.row === row && one.budget === budget),
  };
}

function budgetTable(summary: Summary): TextTable {
  const { budgets, rows, tokens, cell } = layoutOf(summary);
  const { unit, header, cells } = summary;
  const unpruned = cells.filter(({ budget }) => budget === undefined || budget === 1);
  const head = ['tokens entering a block, average', ...budgets.map((budget) => `${tokens(budget)} (${percentOf(budget)})`)];
  const text = (row: string, budget: number): string => {
    const found = cell(row, budget);
    if (found) {
      const near = isNear(found.entering, tokens(budget));
      return `${shown(found.figure, unit)}${near ? '' : ` at ${found.entering.toFixed(0)}`}`;
    }
    return insteadOf(header.unreachable.find((one) => one.row === row && one.budget === budget));
  };
  return {
    title: `${summary.title}, ${unit === 'share' ? '%' : 'points'} (95% interval: ${summary.interval})`,
    rows: [
      head,
      ...unpruned.map(({ row, figure, entering }) => [
        `${row} (${entering.toFixed(0)} tokens)`,
        ...budgets.map((_, i) => (i === 0 ? shown(figure, unit) : '')),
      ]),
      ...rows.map((row) => [row, ...budgets.map((budget) => text(row, budget))]),
    ],
  };
}

const COLUMNS: Readonly<Record<string, string>> = { all: 'all tokens', blind: 'blind (no image)' };

/** Only where there is something to compare with the reference. */
function differenceTable(summary: Summary): TextTable | undefined {
  const { budgets, rows, tokens, cell } = layoutOf(summary);
  const { reference, unit } = summary;
  const body = rows.flatMap((row) => {
    const differences = budgets.map((budget) => cell(row, budget)?.difference);
    return differences.some((one) => one !== undefined) ? [[row, ...differences.map((one) => (one ? signed(one, unit) : '-'))]] : [];
  });
  if (body.length === 0) return undefined;
  const measure = unit === 'share' ? 'percentage points' : 'points';
  return {
    title: `difference to ${reference} at the same budget, ${measure}, paired by image (95% interval); * where that is all on one side of 0`,
    rows: [['tokens', ...budgets.map((budget) => String(tokens(budget)))], ...body],
  };
}

function signed({ value, low, high }: Estimate, unit: Metric['unit']): string {
  const [is, from, to] = [value, low, high].map((one) => `${one > 0 ? '+' : ''}${inUnit(one, unit)}`);
  if (!Number.isFinite(high)) return String(is); // one image
  return `${is} (${from} to ${to})${low > 0 || high < 0 ? ' *' : ''}`;
}

/** A cell that stays empty, with what could be had. */
function insteadOf(cell: Unreachable | undefined): string {
  if (cell?.nearest === undefined) return '-';
  return `- (${cell.nearest === cell.least ? 'least' : 'nearest'} ${+cell.nearest.toFixed(1)})`;
}

/** By group, with all tokens and without the image. */
function groupTable({ cells, groups, commonest, unit, questions }: Summary): TextTable | undefined {
  const unpruned = cells.filter(({ budget }) => budget === undefined || budget === 1);
  if (groups.length < 2 || unpruned.length === 0) return undefined;
  return {
    title: 'by group, % of answers right or mean score (95% interval)',
    rows: [
      ['group', 'questions', ...unpruned.map(({ row }) => COLUMNS[row] ?? row), ...(commonest ? ["always the group's commonest answer"] : [])],
      ...groups.map((group) => [
        group,
        String(unpruned[0]?.groups[group]?.questions ?? 0),
        ...unpruned.map((cell) => shown(cell.groups[group] as Estimate, 'share')),
        ...(commonest ? [shown(commonest[group] as Estimate, 'share')] : []),
      ]),
      ['all', String(questions), ...unpruned.map(({ figure }) => shown(figure, unit)), ...(commonest ? [commonestShare(commonest)] : [])],
    ],
  };
}

function commonestShare(commonest: NonNullable<Summary['commonest']>): string {
  const groups = Object.values(commonest);
  const total = groups.reduce((sum, { questions }) => sum + questions, 0);
  const { share, low, high } = wilson({ right: groups.reduce((sum, { questions, value }) => sum + questions * value, 0), total });
  return shown({ value: share, low, high }, 'share');
}

function seedTable(summary: Summary): TextTable | undefined {
  const { budgets, rows, tokens, cell } = layoutOf(summary);
  const seeds = (row: string): string[] => [...new Set(budgets.flatMap((budget) => Object.keys(cell(row, budget)?.seeds ?? {})))];
  const body = rows.flatMap((row) =>
    seeds(row).map((seed) => [
      `${row}, seed ${seed}`,
      ...budgets.map((budget) => {
        const value = cell(row, budget)?.seeds[seed];
        return value === undefined ? '-' : inUnit(value, summary.unit);
      }),
    ]),
  );
  if (body.length === 0) return undefined;
  return { title: 'each seed', rows: [['tokens', ...budgets.map((budget) => String(tokens(budget)))], ...body] };
}

function detailTable({ cells }: Summary): TextTable | undefined {
  const names = [...new Set(cells.flatMap(({ details }) => Object.keys(details)))];
  if (names.length === 0) return undefined;
  return {
    title: 'further figures (shares in %)',
    rows: [
      ['method', 'tokens', ...names],
      ...cells.map(({ row, entering, details }) => [
        row,
        entering.toFixed(0),
        ...names.map((name) => {
          const detail = details[name];
          return detail ? inUnit(detail.value, detail.unit) : '-';
        }),
      ]),
    ],
  };
}

function timeTable({ cells }: Summary): TextTable | undefined {
  const timed = cells.filter(({ time }) => time !== undefined);
  const [first] = timed;
  if (!first?.time) return undefined;
  const ms = (value: number): string => value.toFixed(1);
  return {
    title: 'ms a question, asked alone with nothing shared: medians, and the mean',
    rows: [
      ['method', 'tokens', 'timed', 'encode', 'select', 'prefill', 'decode', 'total', 'quartiles', 'mean'],
      ...timed.map(({ row, entering, time }) => {
        const { questions, median, mean, quartiles } = time as NonNullable<Cell['time']>;
        const phases = [median.encode, median.select, median.prefill, median.decode, median.total].map(ms);
        return [row, entering.toFixed(0), String(questions), ...phases, quartiles.map(ms).join('-'), ms(mean.total)];
      }),
    ],
  };
}
