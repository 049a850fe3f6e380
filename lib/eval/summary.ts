import { differenceOf, estimateOf, estimateOfScores, INTERVALS, mean, type SeedCounts } from './estimates';
import { type Estimate, percentile, wilson } from './interval';
import { addCounts, type Counts, type Detail, type Metric, type ScoredAnswer } from './metric';
import { METRICS } from './metrics';
import type { AnsweredQuestion, ImageRecord, QuestionTime } from './records';
import type { RecordedCondition, Results, ResultsHeader } from './results';

/** A group of questions under one row and budget: the mean of their scores. */
export interface GroupFigure extends Estimate {
  readonly questions: number;
}

/** One cell of the comparison: a row at a budget, all seeds together. */
export interface Cell {
  readonly row: string;
  readonly budget?: number;
  /** The first figure; of several seeds their mean. */
  readonly figure: Estimate;
  /** How much more that is than the reference has at the same budget, paired by image. */
  readonly difference?: Estimate;
  /** The first figure of each seed. */
  readonly seeds: Readonly<Record<string, number>>;
  readonly details: Readonly<Record<string, Detail>>;
  readonly groups: Readonly<Record<string, GroupFigure>>;
  /** Visual tokens that entered a block, averaged over blocks and questions, as measured. */
  readonly entering: number;
  /** Milliseconds of a question asked alone; absent where none was timed. */
  readonly time?: CellTime;
}

export interface CellTime {
  readonly questions: number;
  readonly mean: QuestionTime;
  readonly median: QuestionTime;
  /** Quartiles of the total. */
  readonly quartiles: readonly [number, number];
}

/** Everything that tables and plots show. */
export interface Summary {
  readonly header: ResultsHeader;
  readonly images: number;
  readonly questions: number;
  readonly title: string;
  readonly unit: Metric['unit'];
  /** How the intervals of the first figure are made. */
  readonly interval: string;
  readonly groups: readonly string[];
  /** What one gets without a model, by group: with the answer that is right most often; where each question has one right answer. */
  readonly commonest?: Readonly<Record<string, GroupFigure>>;
  /** The row that others are compared with. */
  readonly reference?: string;
  readonly cells: readonly Cell[];
}

const PHASES = ['encode', 'select', 'prefill', 'decode', 'total'] as const;

/** What came out of a run. */
export function summarize({ header, records }: Results): Summary {
  const metric: Metric = METRICS[header.data.metric];
  const reference = referenceOf(header.conditions);
  const groups = [...new Set(records.flatMap(({ questions }) => questions.map(({ group }) => group)))];
  const counted = cellsOf(header.conditions).map((conditions) => cellOf(conditions, records, metric, groups));
  return {
    header,
    images: records.length,
    questions: records.reduce((sum, { questions }) => sum + questions.length, 0),
    title: metric.title,
    unit: metric.unit,
    interval: INTERVALS[metric.kind],
    groups,
    commonest: commonestOf(records, metric, groups),
    ...(reference === undefined ? {} : { reference }),
    cells: counted.map((cell) => {
      const other = cell.row === reference ? undefined : counted.find(({ row, budget }) => row === reference && budget === cell.budget);
      const { counts, ...rest } = cell;
      return { ...rest, ...(other ? { difference: differenceOf(counts, other.counts, metric) } : {}) };
    }),
  };
}

/** What others are compared with at the same budget: VisPruner where it is there, else the first method. */
function referenceOf(conditions: readonly RecordedCondition[]): string | undefined {
  const rows = conditions.filter(({ budget }) => budget !== undefined && budget < 1).map(({ row }) => row);
  return rows.includes('vispruner') ? 'vispruner' : rows[0];
}

/** Conditions that share a cell. */
function cellsOf(conditions: readonly RecordedCondition[]): RecordedCondition[][] {
  const cells = new Map<string, RecordedCondition[]>();
  for (const condition of conditions) {
    const key = JSON.stringify([condition.row, condition.budget]);
    cells.set(key, [...(cells.get(key) ?? []), condition]);
  }
  return [...cells.values()];
}

interface CountedCell extends Cell {
  readonly counts: SeedCounts;
}

function cellOf(conditions: readonly RecordedCondition[], records: readonly ImageRecord[], metric: Metric, groups: readonly string[]): CountedCell {
  const [{ row, budget }] = conditions as [RecordedCondition];
  const scored = conditions.map(({ key }) => records.map(({ questions }) => questions.map((question) => scoredAnswer(question, key, metric))));
  const counts = scored.map((images) => images.map((answers) => metric.counts(answers)));
  const totals = counts.map(addCounts);
  return {
    row,
    budget,
    counts,
    figure: estimateOf(counts, metric),
    seeds: Object.fromEntries(conditions.flatMap(({ seed }, i) => (seed === undefined ? [] : [[String(seed), metric.value(totals[i] as Counts)]]))),
    details: meanDetails(totals.map((total) => metric.details?.(total) ?? {})),
    groups: Object.fromEntries(groups.map((group) => [group, groupFigure(scored, group, metric)])),
    entering: mean(conditions.flatMap(({ key }) => records.map(({ entering }) => entering[key] ?? 0))),
    time: timeOf(conditions, records),
  };
}

function scoredAnswer({ said: all, ...question }: AnsweredQuestion, key: string, metric: Metric): ScoredAnswer {
  const said = all[key] ?? '';
  return { ...question, said, score: metric.score(said, question) };
}

function groupFigure(scored: readonly (readonly (readonly ScoredAnswer[])[])[], group: string, metric: Metric): GroupFigure {
  const seeds = scored.map((images) =>
    images.map((answers) => {
      const own = answers.filter((answer) => answer.group === group);
      return { score: own.reduce((sum, { score }) => sum + score, 0), total: own.length };
    }),
  );
  const questions = (seeds[0] ?? []).reduce((sum, { total }) => sum + total, 0);
  return { questions, ...estimateOfScores(seeds, metric) };
}

function commonestOf(records: readonly ImageRecord[], metric: Metric, groups: readonly string[]): Record<string, GroupFigure> | undefined {
  const questions = records.flatMap((record) => record.questions);
  if (metric.kind !== 'share' || questions.some(({ reference }) => typeof reference !== 'string')) return undefined;
  return Object.fromEntries(
    groups.map((group) => {
      const counts = new Map<string, number>();
      for (const { reference } of questions.filter((question) => question.group === group))
        counts.set(String(reference), (counts.get(String(reference)) ?? 0) + 1);
      const total = [...counts.values()].reduce((sum, one) => sum + one, 0);
      const { share, low, high } = wilson({ right: Math.max(0, ...counts.values()), total });
      return [group, { questions: total, value: share, low, high }];
    }),
  );
}

function meanDetails(all: readonly Readonly<Record<string, Detail>>[]): Record<string, Detail> {
  return Object.fromEntries(
    Object.entries(all[0] ?? {}).map(([name, { unit }]) => [name, { unit, value: mean(all.map((one) => one[name]?.value ?? 0)) }]),
  );
}

function timeOf(conditions: readonly RecordedCondition[], records: readonly ImageRecord[]): CellTime | undefined {
  const times = conditions.flatMap(({ key }) => records.flatMap(({ time }) => time?.[key] ?? []));
  if (times.length === 0) return undefined;
  const sorted = (phase: (typeof PHASES)[number]): number[] => times.map((time) => time[phase]).sort((a, b) => a - b);
  const all = (statistic: (values: readonly number[]) => number): QuestionTime =>
    Object.fromEntries(PHASES.map((phase) => [phase, statistic(sorted(phase))])) as unknown as QuestionTime;
  const totals = sorted('total');
  return {
    questions: times.length,
    mean: all(mean),
    median: all((values) => percentile(values, 0.5)),
    quartiles: [percentile(totals, 0.25), percentile(totals, 0.75)],
  };
}
