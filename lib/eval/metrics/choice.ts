import { type Counts, type Detail, type Metric, meanCounts, meanValue, type ScoredAnswer } from '../metric';

const LETTERS = 'ABCDEFGHIJ';

/**
 * The letter that an answer to a multiple choice means, as LLaVA's evaluation of ScienceQA reads it: the letter alone, the letter before a full stop and a
 * space, or behind "The answer is". Undefined where there is none, or none among the choices.
 *
 * Differs from it: a letter before a full stop, a colon or a bracket at the very end counts too, and so does one in brackets, as `(B)`.
 */
export function chosenLetter(said: string, choices: number): string | undefined {
  const text = said.trim();
  const letter = /^\(?([A-J])(?:$|[.:)](?:\s|$))/.exec(text)?.[1] ?? /The answer is \(?([A-J])\b/.exec(text)?.[1];
  return letter !== undefined && LETTERS.indexOf(letter) < choices ? letter : undefined;
}

export function letterOf(index: number): string {
  return LETTERS[index] ?? '?';
}

/**
 * Accuracy of multiple choice by letter: ScienceQA (Lu et al. 2022) and MMBench (Liu et al. 2023). Where a question is asked several times with its choices
 * rotated (MMBench's CircularEval), the first figure counts it once, as right when it is always answered right, and `each` has the share of all answers.
 *
 * Differs from MMBench: no other model is asked what an answer without a letter means; it is wrong.
 */
export const choiceMetric: Metric = {
  title: 'accuracy',
  unit: 'share',
  kind: 'share',
  score: (said, { reference, choices = LETTERS.length }) => Number(chosenLetter(said, choices) === reference),
  counts: (answers) => ({ ...meanCounts(bundled(answers)), 'each score': sumOf(answers), 'each total': answers.length }),
  value: meanValue,
  details(counts): Readonly<Record<string, Detail>> {
    return counts['each total'] === counts['total'] ? {} : { 'each answer': { value: each(counts), unit: 'share' } };
  },
};

function each(counts: Counts): number {
  return (counts['each score'] ?? 0) / (counts['each total'] ?? 0);
}

function sumOf(answers: readonly ScoredAnswer[]): number {
  return answers.reduce((sum, { score }) => sum + score, 0);
}

/** One answer a bundle, with the least of its scores. */
function bundled(answers: readonly ScoredAnswer[]): ScoredAnswer[] {
  const least = new Map<string, ScoredAnswer>();
  for (const answer of answers) {
    const key = answer.bundle ?? answer.id;
    const before = least.get(key);
    if (!before || answer.score < before.score) least.set(key, answer);
  }
  return [...least.values()];
}
