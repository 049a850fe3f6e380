import type { Reference } from '../data_set';
import { type Metric, meanCounts, meanValue } from '../metric';

/** The answer of a scene: the very word. */
export const wordMetric: Metric = {
  title: 'accuracy',
  unit: 'share',
  kind: 'share',
  score: (said, { reference }) => Number(said.trim() === textOf(reference)),
  counts: meanCounts,
  value: meanValue,
};

/** GQA's accuracy (Hudson & Manning 2019): the very words, after what LLaVA's conversion for its evaluation does, no full stop at the end and small letters. */
export const gqaMetric: Metric = {
  ...wordMetric,
  score: (said, { reference }) => Number(said.trim().replace(/\.+$/, '').toLowerCase() === textOf(reference)),
};

function textOf(reference: Reference): string {
  return typeof reference === 'string' ? reference : (reference[0] ?? '');
}
