import type { EvalQuestion } from './data_set';

/** An answer with its score, 0 to 1. */
export interface ScoredAnswer extends EvalQuestion {
  readonly said: string;
  readonly score: number;
}

/** Named numbers that add up over images. */
export type Counts = Readonly<Record<string, number>>;

/** How a data set's answers are scored, after its own evaluation. */
export interface Metric {
  /** What the first figure is called. */
  readonly title: string;
  /** Shares are shown in per cent, points as they are. */
  readonly unit: 'share' | 'points';
  /** What the first figure is: the share of answers that are right (each is, or is not), the mean of scores, or something else made of counts. */
  readonly kind: 'share' | 'mean' | 'composite';
  /** One answer, 0 to 1. */
  score(said: string, question: EvalQuestion): number;
  /** What the answers about one image add to the figures. */
  counts(answers: readonly ScoredAnswer[]): Counts;
  /** The first figure, by which methods are compared; NaN of nothing. */
  value(counts: Counts): number;
  /** Further figures by name, each with its unit. */
  details?(counts: Counts): Readonly<Record<string, Detail>>;
}

export interface Detail {
  readonly value: number;
  readonly unit: 'share' | 'points';
}

/** Counts of a metric whose first figure is the mean score. */
export function meanCounts(answers: readonly ScoredAnswer[]): Counts {
  return { score: answers.reduce((sum, { score }) => sum + score, 0), total: answers.length };
}

export function meanValue({ score = 0, total = 0 }: Counts): number {
  return score / total;
}

/** 0 / 0 is 0, as where nothing was answered with yes. */
export function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

/** What several images add up to. */
export function addCounts(all: readonly Counts[]): Counts {
  const sums: Record<string, number> = {};
  for (const counts of all) {
    for (const [name, value] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}
