import type { Cell, Summary } from './summary';

/** What a plot shows accuracy against. */
export type Against = 'tokens' | 'time';

/** A row at a budget, in the units of the axes. */
export interface PlotPoint {
  readonly row: string;
  readonly x: number;
  /** The quartiles of the time; the tokens themselves. */
  readonly left: number;
  readonly right: number;
  readonly y: number;
  /** The 95% interval. */
  readonly low: number;
  readonly high: number;
  readonly title: string;
}

/** Rows with a line of their own, in the order of the tables: not what is asked at one budget only. */
export function plottedRows({ cells }: Summary): string[] {
  return [...new Set(cells.filter(({ budget, row }) => row !== 'blind' && budget !== 1).map(({ row }) => row))];
}

/** Points of a row, from the largest budget to the least. */
export function pointsOf(summary: Summary, row: string, against: Against): PlotPoint[] {
  const cells = summary.cells.filter((cell) => cell.row === row && (against === 'tokens' || cell.time !== undefined));
  return cells.sort((a, b) => b.entering - a.entering).map((cell) => pointOf(summary, cell, against));
}

function pointOf(summary: Summary, { row, figure, entering, time }: Cell, against: Against): PlotPoint {
  const [y, low, high] = [figure.value, figure.low, figure.high].map((value) => onAxis(value, summary)) as [number, number, number];
  const median = time?.median.total ?? Number.NaN;
  const [left, right] = against === 'tokens' ? [entering, entering] : (time?.quartiles ?? [median, median]);
  const ms = time ? `, ${median.toFixed(1)} ms` : '';
  const title = `${row}: ${y.toFixed(1)} (${low.toFixed(1)}-${high.toFixed(1)}) at ${entering.toFixed(1)} tokens${ms}`;
  return { row, x: against === 'tokens' ? entering : median, left, right, y, low, high, title };
}

/** Shares as percentages, points as they are. */
export function onAxis(value: number, { unit }: Summary): number {
  return unit === 'share' ? 100 * value : value;
}

/** From the lowest end of an interval to the highest, and a little more. */
export function yDomain(points: readonly PlotPoint[]): [number, number] {
  const [low, high] = [Math.min(...points.map((point) => point.low)), Math.max(...points.map((point) => point.high))];
  const margin = Math.max(0.04 * (high - low), 1e-6);
  return [low - margin, high + margin];
}

/** A tenth further than the points on either side, as suits a logarithmic axis. */
export function xDomain(points: readonly PlotPoint[]): [number, number] {
  return [Math.min(...points.map(({ left }) => left)) / 1.1, Math.max(...points.map(({ right }) => right)) * 1.1];
}

/** The budgets as whole tokens, and all tokens. */
export function tokenTicks({ cells }: Summary): number[] {
  const all = cells.find(({ row }) => row === 'all')?.entering ?? 0;
  const budgets = cells.flatMap(({ budget }) => (budget === undefined ? [] : [budget]));
  return [...new Set(budgets.map((budget) => Math.max(1, Math.round(budget * all))))];
}

/**
 * Heights for labels that want to stand at `wanted`, at least `gap` apart and in the same order, from the highest down; above `floor` where there is room.
 */
export function spread(wanted: readonly number[], gap: number, floor: number): number[] {
  const order = wanted.map((_, i) => i).sort((a, b) => (wanted[b] as number) - (wanted[a] as number));
  const at = [...wanted];
  let limit = Number.POSITIVE_INFINITY;
  for (const i of order) {
    at[i] = Math.min(at[i] as number, limit);
    limit = (at[i] as number) - gap;
  }
  let least = floor;
  for (const i of order.reverse()) {
    at[i] = Math.max(at[i] as number, least);
    least = (at[i] as number) + gap;
  }
  return at;
}
