import { type Counts, type Metric, ratio } from '../metric';

export const MME_PERCEPTION = ['existence', 'count', 'position', 'color', 'posters', 'celebrity', 'scene', 'landmark', 'artwork', 'OCR'] as const;
export const MME_COGNITION = ['commonsense_reasoning', 'numerical_calculation', 'text_translation', 'code_reasoning'] as const;

/** What MME's evaluation takes an answer for: the whole answer, or the first four letters, in small letters, with "yes" or else with "no" in them. */
export function mmeAnswer(said: string): 'yes' | 'no' | 'other' {
  const text = said.trim().toLowerCase();
  const start = text === 'yes' || text === 'no' ? text : text.slice(0, 4);
  if (start.includes('yes')) return 'yes';
  return start.includes('no') ? 'no' : 'other';
}

/**
 * MME (Fu et al. 2023): a task's score is the percentage of its questions that are answered right, plus the percentage of its images with both questions
 * answered right; a task has at most 200 points. The first figure is the sum over the tasks asked; `perception` and `cognition` are its parts.
 */
export const mmeMetric: Metric = {
  title: 'score, sum of the tasks',
  unit: 'points',
  kind: 'composite',
  score: (said, { reference }) => Number(mmeAnswer(said) === reference),
  counts(answers) {
    const counts: Record<string, number> = {};
    const add = (name: string, value: number): void => {
      counts[name] = (counts[name] ?? 0) + value;
    };
    for (const task of new Set(answers.map(({ group }) => group))) {
      const own = answers.filter(({ group }) => group === task);
      const right = own.reduce((sum, { score }) => sum + score, 0);
      add(`${task}|right`, right);
      add(`${task}|questions`, own.length);
      add(`${task}|both`, Number(right === own.length));
      add(`${task}|images`, 1);
    }
    return counts;
  },
  value: (counts) => tasksOf(counts).reduce((sum, task) => sum + taskScore(counts, task), 0),
  details(counts) {
    const tasks = tasksOf(counts);
    const sumOf = (group: readonly string[]): number =>
      tasks.filter((task) => group.includes(task)).reduce((sum, task) => sum + taskScore(counts, task), 0);
    const parts = { perception: sumOf(MME_PERCEPTION), cognition: sumOf(MME_COGNITION) };
    const named = [...Object.entries(parts), ...tasks.map((task) => [task, taskScore(counts, task)] as const)];
    return Object.fromEntries(named.map(([name, value]) => [name, { value, unit: 'points' as const }]));
  },
};

function tasksOf(counts: Counts): string[] {
  const asked = new Set(Object.keys(counts).map((name) => name.split('|')[0] as string));
  return [...MME_PERCEPTION, ...MME_COGNITION].filter((task) => asked.has(task));
}

function taskScore(counts: Counts, task: string): number {
  const of = (name: string): number => counts[`${task}|${name}`] ?? 0;
  return 100 * ratio(of('right'), of('questions')) + 100 * ratio(of('both'), of('images'));
}
