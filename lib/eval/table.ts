import { QUESTION_TYPES, type QuestionType } from '../scenes';
import type { Condition } from './conditions';
import type { AnsweredQuestion, SceneRecord } from './evaluate';
import { type Proportion, wilson } from './interval';

/** Accuracy under one condition. */
export interface ConditionAccuracy {
  readonly key: string;
  readonly row: string;
  readonly budget?: number;
  readonly averageTokens: number;
  readonly all: Proportion;
  readonly byType: Readonly<Record<QuestionType, Proportion>>;
}

/** What one gets without a model: for each type of question, the answer that is right most often. */
const COMMONEST = 'commonest';

/** Column heads of the table by type. */
const TYPE_COLUMNS: Readonly<Record<string, string>> = {
  all: 'all tokens',
  blind: 'blind (no image)',
  [COMMONEST]: "always the type's commonest answer",
};

/** Right answers under each condition, of all records; at the end those of the commonest answer, which no model is needed for. */
export function accuracies(records: readonly SceneRecord[], conditions: readonly Condition[]): ConditionAccuracy[] {
  const questions = records.flatMap((record) => record.questions);
  const commonest = Object.fromEntries(QUESTION_TYPES.map((type) => [type, commonestAnswer(questions.filter((question) => question.type === type))]));
  const rows = [...conditions, { key: COMMONEST, row: COMMONEST, averageTokens: 0 } as Condition];
  return rows.map(({ key, row, budget, averageTokens }) => {
    const answerOf = (question: AnsweredQuestion): string | undefined => (key === COMMONEST ? commonest[question.type] : question.said[key]);
    const tally = (type?: QuestionType): Proportion => {
      const asked = questions.filter((question) => type === undefined || question.type === type);
      return wilson({ right: asked.filter((question) => answerOf(question) === question.answer).length, total: asked.length });
    };
    const byType = Object.fromEntries(QUESTION_TYPES.map((type) => [type, tally(type)])) as Record<QuestionType, Proportion>;
    return { key, row, budget, averageTokens, all: tally(), byType };
  });
}

function commonestAnswer(questions: readonly AnsweredQuestion[]): string | undefined {
  const counts = new Map<string, number>();
  for (const { answer } of questions) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0];
}

/** `91.2 (89.9-92.3)`: a percentage and its 95% interval. */
export function percent({ share, low, high, total }: Proportion): string {
  if (total === 0) return '-';
  const one = (value: number): string => (100 * value).toFixed(1);
  return `${one(share)} (${one(low)}-${one(high)})`;
}

/** The tables of an evaluation as Markdown: by type with and without the image, then by budget. */
export function accuracyMarkdown(found: readonly ConditionAccuracy[]): string {
  return [typeTable(found), budgetTable(found)].join('\n');
}

function typeTable(found: readonly ConditionAccuracy[]): string {
  const columns = found.filter(({ row }) => row in TYPE_COLUMNS);
  const line = (name: string, cells: readonly (Proportion | undefined)[]): string =>
    `| ${[name, String(cells[0]?.total ?? 0), ...cells.map((cell) => (cell ? percent(cell) : '-'))].join(' | ')} |`;
  return [
    `| accuracy, % (95% interval) | questions | ${columns.map(({ row }) => TYPE_COLUMNS[row]).join(' | ')} |`,
    `|${'---|'.repeat(columns.length + 2)}`,
    ...QUESTION_TYPES.map((type) =>
      line(
        type,
        columns.map(({ byType }) => byType[type]),
      ),
    ),
    line(
      '**all**',
      columns.map(({ all }) => all),
    ),
    '',
  ].join('\n');
}

function budgetTable(found: readonly ConditionAccuracy[]): string {
  const full = found.find(({ row }) => row === 'all');
  const pruned = found.filter(({ budget }) => budget !== undefined && budget < 1);
  const budgets = [...new Set(pruned.map(({ budget }) => budget as number))].sort((a, b) => b - a);
  const rows = [...new Set(pruned.map(({ row }) => row))];
  const tokens = (budget: number): number => Math.max(1, Math.round(budget * (full?.averageTokens ?? 0)));
  const cells = (row: string): string[] =>
    budgets.map((budget) => {
      const cell = pruned.find((one) => one.row === row && one.budget === budget);
      if (!cell) return '-';
      const off = Math.abs(cell.averageTokens - tokens(budget)) >= 1;
      return `${percent(cell.all)}${off ? ` at ${cell.averageTokens.toFixed(0)}` : ''}`;
    });
  return [
    `| tokens entering a block, average | ${[`${full?.averageTokens ?? 0} (100%)`, ...budgets.map((budget) => `${tokens(budget)} (${+(100 * budget).toFixed(1)}%)`)].join(' | ')} |`,
    `|${'---|'.repeat(budgets.length + 2)}`,
    ...rows.map((row) => `| ${[row, full ? percent(full.all) : '-', ...cells(row)].join(' | ')} |`),
    '',
  ].join('\n');
}
