import type { AttentionDispersion, AttentionShift, EqualPositionAttention, KeptRank, Profile, QuartileRetentions } from '../analysis';
import { CRITERIA, shareOfTop } from '../analysis';
import { measureOf } from '../analysis/answers';
import { type Proportion, shown } from '../eval';
import { table } from './output';

/** `91.2 (89.9-92.3)`: in percent, with its 95% interval. */
function percent({ share, low, high }: Proportion): string {
  return shown({ value: share, low, high }, 'share');
}

const PROFILE_HEADER = ['1st quarter', '2nd', '3rd', '4th', 'rank correlation'];

/** Shares of the quarters in percent, and how the values go with their index. */
function profileCells({ quartiles, spearman }: Profile): string[] {
  return [...quartiles.map((share) => (100 * share).toFixed(1)), spearman.toFixed(2)];
}

export function shiftTable({ blocks, encoder, visualTokens, samples, selectedTokens }: AttentionShift): string {
  const rows = blocks.flatMap((block) =>
    (['last', 'text', 'image', 'full', 'selected'] as const).map((row) => [
      String(block.block),
      row,
      row === 'last' || row === 'text' ? (100 * block[row].mass).toFixed(1) : '',
      ...profileCells(block[row]),
    ]),
  );
  rows.push(['encoder', 'class', (100 * encoder.mass).toFixed(1), ...profileCells(encoder)]);
  const note = `${samples} questions, ${visualTokens} visual tokens. Attention to each quarter of their indices in percent of what all get; "to image": percent of the\nrow's attention that goes to visual tokens; "selected": how often a token is among the ${selectedTokens} that the last token attends to most.`;
  return `${note}\n\n${table(['block', 'attention of', 'to image', ...PROFILE_HEADER], rows, [0, 1])}`;
}

export function dispersionTable(found: AttentionDispersion): string {
  const kinds = { 'encoder, class attention': found.encoder, 'decoder, last token': found.last, 'the same, equal positions': found.equal };
  const fractions = [0.05, 0.1, 0.2, 0.5];
  const rows = Object.entries(kinds).map(([kind, one]) => [
    kind,
    String(one.samples),
    ...fractions.map((fraction) => (100 * shareOfTop(one, fraction)).toFixed(1)),
    one.largest.toFixed(4),
  ]);
  const note = `Percent of the attention that the most attended of ${found.visualTokens} visual tokens hold; decoder block ${found.block}.`;
  return `${note}\n\n${table(['', 'samples', ...fractions.map((fraction) => `top ${100 * fraction}%`), 'largest score'], rows)}`;
}

export function quartilesTable({ retentions, full, samples, visualTokens }: QuartileRetentions): string {
  const { name, of } = measureOf(full);
  const depths = [...new Set(retentions.map(({ depth }) => depth))];
  const rows = depths.map((depth) => [String(depth), ...retentions.filter((one) => one.depth === depth).map((one) => percent(of(one)))]);
  const note = `${samples} questions, ${visualTokens} visual tokens, of which one quarter goes on from a block: ${name} in percent (95% interval).\nAll tokens: ${percent(of(full))}.`;
  return `${note}\n\n${table(['from block', ...PROFILE_HEADER.slice(0, 4)], rows)}`;
}

export function equalPositionsTable(found: EqualPositionAttention): string {
  const { name, of } = measureOf(found.full);
  const attention = table(
    ['positions', 'to image', ...PROFILE_HEADER],
    [
      ["the model's", (100 * found.last.mass).toFixed(1), ...profileCells(found.last)],
      ['equal', (100 * found.equal.mass).toFixed(1), ...profileCells(found.equal)],
    ],
  );
  const answers = table(
    ['chosen by', name, 'agreement'],
    [
      ['all tokens', percent(of(found.full)), ''],
      ...CRITERIA.map((criterion) => [criterion, percent(of(found.pruned[criterion])), percent(found.pruned[criterion].agreement)]),
    ],
  );
  const notes = [
    `${found.samples} questions, ${found.visualTokens} visual tokens. Attention of the last token in block ${found.block}, by index, in percent:`,
    `${found.tokens} tokens go on from block ${found.block + 1}; in percent (95% interval):`,
  ];
  return `${notes[0]}\n\n${attention}\n${notes[1]}\n\n${answers}`;
}

export function ranksTable(ranks: readonly KeptRank[]): string {
  const rows = ranks.map(({ name, tokens, rank, deviation }) => [name, `${+tokens.toFixed(1)}`, rank.toFixed(2), deviation.toFixed(2)]);
  return `Effective rank of the visual tokens that enter the decoder, mean over pictures.\n\n${table(['method', 'tokens', 'effective rank', 'deviation'], rows)}`;
}
