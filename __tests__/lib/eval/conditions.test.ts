import { BUDGETS, COMPARED_METHODS, conditionsOf } from '../../../lib/eval';
import { createPruner } from '../../../lib/prune/registry';

const options = {
  methods: COMPARED_METHODS,
  budgets: BUDGETS,
  randomSeeds: [1, 2, 3],
  blind: true,
  importantRatio: 0.5,
  patches: 256,
  decoderBlocks: 4,
};
const conditions = conditionsOf(options);

describe('the conditions of a comparison', () => {
  it('have keys of their own, so that no record is overwritten', () => {
    expect(new Set(conditions.map(({ key }) => key)).size).toBe(conditions.length);
  });

  it('let as many tokens enter the blocks, on average, as they say', () => {
    for (const { prune, averageTokens } of conditions) {
      if (!prune) continue;
      const entering = createPruner(prune(7)).enteringTokens(256, 4) ?? [];
      expect(entering.reduce((sum, count) => sum + count, 0) / 4).toBe(averageTokens);
    }
  });

  it('compare FastV at the budget of the column only where it can be reached: its first block runs on all tokens', () => {
    const rows = conditions.filter(({ row }) => row === 'fastv (block 1)');
    expect(rows.map(({ budget, averageTokens }) => [budget, Math.round(averageTokens)])).toEqual([[0.5, 128]]);
    const deep = conditionsOf({ ...options, decoderBlocks: 32 }).filter(({ row }) => row === 'fastv (block 1)');
    const kept = conditions.filter(({ row }) => row === 'fastv, by tokens kept');
    expect(kept.map(({ budget, averageTokens }) => [budget, averageTokens])).toEqual([
      [0.22, 106],
      [0.11, 85],
      [0.056, 74.5],
      [0.028, 69.25],
    ]);
    expect(deep.map(({ averageTokens }) => Math.round(averageTokens))).toEqual([128, 56, 28, 14]); // 7 is below 256 / 32
  });

  it('draw another random subset for every scene and every seed', () => {
    const drawn = conditions.filter(({ row }) => row.startsWith('random')).flatMap(({ prune }) => [prune?.(1), prune?.(2)]);
    expect(new Set(drawn.map((prune) => JSON.stringify(prune))).size).toBe(drawn.length);
  });
});
