import { DataError } from '../../layers/errors';
import type { PruneOptions } from '../prune/registry';
import type { Condition, Unreachable } from './conditions';
import type { MetricName } from './data_set';
import type { AnsweredQuestion, ImageRecord } from './records';

/** A condition as a file holds it, with its options for the first image. */
export interface RecordedCondition extends Omit<Condition, 'prune'> {
  readonly options?: PruneOptions | { readonly method: string; readonly sha256: string };
}

/** The first line of a results file: what its records may be counted together by. */
export interface ResultsHeader {
  readonly format: 'vispruner-eval 1';
  /** Digest of the model's files. */
  readonly weights: string;
  readonly dtype: string;
  readonly backend: string;
  /** What its times were measured on. */
  readonly machine: string;
  readonly data: { readonly name: string; readonly digest: string; readonly metric: MetricName; readonly maxNewTokens: number };
  readonly conditions: readonly RecordedCondition[];
  readonly unreachable: readonly Unreachable[];
  /** Of how many of the first images a question was asked alone. */
  readonly timed: number;
  /** Which of how many processes wrote it; absent of one alone. */
  readonly shard?: string;
}

/** What is in a results file. */
export interface Results {
  readonly header: ResultsHeader;
  readonly records: readonly ImageRecord[];
}

/**
 * Results of several files as one: of other images (shards), or of other conditions for the same images. Images that not all conditions were asked of are
 * left out.
 *
 * @throws DataError `RESULTS_APART` for files of another model or another data set
 */
export function mergeResults(all: readonly Results[]): Results {
  const [first] = all;
  if (!first) throw new DataError('RESULTS_APART', 'There is no results file to merge. Name at least one.');
  for (const { header } of all) {
    for (const key of ['format', 'weights', 'dtype', 'data'] as const) {
      const [a, b] = [JSON.stringify(first.header[key]), JSON.stringify(header[key])];
      if (a !== b)
        throw new DataError(
          'RESULTS_APART',
          `Results can't be merged: "${key}" is ${a} in one file and ${b} in another. Merge files of one model and one data set.`,
        );
    }
  }
  const { shard: _, ...shared } = first.header;
  const conditions = conditionsOf(all);
  const images = new Map<number, ImageRecord>();
  for (const { records } of all) {
    for (const record of records) {
      const before = images.get(record.image);
      images.set(record.image, before ? joined(before, record) : record);
    }
  }
  const whole = [...images.values()].filter(({ questions }) => conditions.every(({ key }) => questions.every(({ said }) => key in said)));
  return {
    header: {
      ...shared,
      backend: [...new Set(all.map(({ header }) => header.backend))].join(', '),
      machine: [...new Set(all.map(({ header }) => header.machine))].join('; '),
      timed: Math.max(...all.map(({ header }) => header.timed)),
      conditions,
      unreachable: [...new Map(all.flatMap(({ header }) => header.unreachable).map((one) => [`${one.row} ${one.budget}`, one])).values()],
    },
    records: whole.sort((a, b) => a.image - b.image),
  };
}

/** Each once. @throws DataError `RESULTS_APART` where two files mean different things by one name */
function conditionsOf(all: readonly Results[]): RecordedCondition[] {
  const conditions = new Map<string, RecordedCondition>();
  for (const one of all.flatMap(({ header }) => header.conditions)) {
    const before = conditions.get(one.key);
    const [is, was] = [one, before].map((condition) => JSON.stringify(condition?.options));
    if (before && is !== was) {
      throw new DataError(
        'RESULTS_APART',
        `Results can't be merged: "${one.key}" was asked with ${was} in one file and with ${is} in another. Merge files that were asked alike.`,
      );
    }
    conditions.set(one.key, before ?? one);
  }
  return [...conditions.values()];
}

function joined(a: ImageRecord, b: ImageRecord): ImageRecord {
  const answers = new Map(b.questions.map((question) => [question.id, question.said]));
  const questions = a.questions.map((question): AnsweredQuestion => ({ ...question, said: { ...question.said, ...answers.get(question.id) } }));
  const time = a.time || b.time ? { time: { ...a.time, ...b.time } } : {};
  return { image: a.image, questions, entering: { ...a.entering, ...b.entering }, ...time };
}
