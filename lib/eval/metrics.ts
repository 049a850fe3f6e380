import type { MetricName } from './data_set';
import type { Metric } from './metric';
import { choiceMetric } from './metrics/choice';
import { gqaMetric, wordMetric } from './metrics/exact';
import { mmeMetric } from './metrics/mme';
import { popeMetric } from './metrics/pope';
import { textVqaMetric, vqaMetric } from './metrics/vqa';

/** Every way of scoring, by the name that results files have. */
export const METRICS: Readonly<Record<MetricName, Metric>> = {
  word: wordMetric,
  gqa: gqaMetric,
  vqa: vqaMetric,
  textvqa: textVqaMetric,
  choice: choiceMetric,
  pope: popeMetric,
  mme: mmeMetric,
};
