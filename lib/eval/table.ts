import { QUESTION_TYPES, type QuestionType } from '../scenes';
import type { Condition } from './conditions';
import type { SceneRecord } from './evaluate';
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

/** Right answers under each condition, of all records. */
export function accuracies(records: readonly SceneRecord[], conditions: readonly Condition[]): ConditionAccuracy[] {
  const questions = records.flatMap((record) => record.questions);
  return conditions.map(({ key, row, budget, averageTokens }) => {
    const tally = (type?: QuestionType): Proportion => {
      const asked = questions.filter((question) => type === undefined || question.type === type);
      return wilson({ right: asked.filter(({ said, answer }) => said[key] === answer).length, total: asked.length });
    };
    const byType = Object.fromEntries(QUESTION_TYPES.map((type) => [type, tally(type)])) as Record<QuestionType, Proportion>;
    return { key, row, budget, averageTokens, all: tally(), byType };
  });
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
  const columns = found.filter(({ row }) => row === 'all' || row === 'blind');
  const line = (name: string, cells: readonly (Proportion | undefined)[]): string =>
    `| ${[name, String(cells[0]?.total ?? 0), ...cells.map((cell) => (cell ? percent(cell) : '-'))].join(' | ')} |`;
  return [
    `| accuracy, % (95% interval) | questions | ${columns.map(({ row }) => (row === 'all' ? 'all tokens' : 'blind (no image)')).join(' | ')} |`,
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
