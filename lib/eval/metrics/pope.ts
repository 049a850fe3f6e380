import { type Counts, type Metric, ratio, type ScoredAnswer } from '../metric';

/**
 * What POPE's evaluation (Li et al. 2023, as LLaVA has it) takes an answer for: no when the first sentence has one of the words "No", "no" and "not",
 * else yes.
 */
export function popeAnswer(said: string): 'yes' | 'no' {
  const [sentence = ''] = said.trim().split('.');
  const words = sentence.replaceAll(',', '').split(' ');
  return words.some((word) => word === 'No' || word === 'no' || word === 'not') ? 'no' : 'yes';
}

const OUTCOMES = ['TP', 'FP', 'TN', 'FN'] as const;

function outcome({ said, reference }: ScoredAnswer): (typeof OUTCOMES)[number] {
  const yes = popeAnswer(said) === 'yes';
  if (reference === 'yes') return yes ? 'TP' : 'FN';
  return yes ? 'FP' : 'TN';
}

/** POPE: F1 of the answer yes in each split (random, popular, adversarial), and their mean as the first figure. */
export const popeMetric: Metric = {
  title: 'F1, mean of the splits',
  unit: 'share',
  kind: 'composite',
  score: (said, { reference }) => Number(popeAnswer(said) === reference),
  counts(answers) {
    const counts: Record<string, number> = {};
    for (const answer of answers) {
      const name = `${answer.group} ${outcome(answer)}`;
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  },
  value(counts) {
    const splits = splitsOf(counts);
    return splits.reduce((sum, split) => sum + figuresOf(counts, split).F1, 0) / splits.length;
  },
  details(counts) {
    const named = splitsOf(counts).flatMap((split) =>
      Object.entries(figuresOf(counts, split)).map(([name, value]) => [`${split} ${name}`, { value, unit: 'share' as const }] as const),
    );
    return Object.fromEntries(named);
  },
};

/** Splits of which anything was asked, in the order in which POPE names them. */
function splitsOf(counts: Counts): string[] {
  const splits = new Set(Object.keys(counts).map((name) => name.slice(0, name.lastIndexOf(' '))));
  const rank = (split: string): number => ['random', 'popular', 'adversarial'].indexOf(split);
  return [...splits].sort((a, b) => rank(a) - rank(b));
}

/** Nothing answered with yes, or nothing to be: precision, recall and F1 are 0, where the released script divides by zero. */
function figuresOf(counts: Counts, split: string): { accuracy: number; precision: number; recall: number; F1: number; 'yes ratio': number } {
  const [tp, fp, tn, fn] = OUTCOMES.map((name) => counts[`${split} ${name}`] ?? 0) as [number, number, number, number];
  const total = tp + fp + tn + fn;
  const precision = ratio(tp, tp + fp);
  const recall = ratio(tp, tp + fn);
  return {
    accuracy: ratio(tp + tn, total),
    precision,
    recall,
    F1: ratio(2 * precision * recall, precision + recall),
    'yes ratio': ratio(tp + fp, total),
  };
}
