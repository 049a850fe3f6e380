import * as tf from '@tensorflow/tfjs';
import { fitPruneMethod } from '../../../lib/prune/fitprune';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { useBackend } from '../../support/backends';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request } from './views';

describeRecorded('fitprune');

describe('FitPrune', () => {
  beforeAll(() => useBackend('cpu'));

  /** Rows 0 to 5, of which 1, 2 and 3 are visual; two heads that see every column alike but for one value each. */
  const view = (block: number, given: (head: number, row: number, column: number) => number) =>
    decoderView(
      block,
      [1, 2, 3],
      (_, rows) => tf.tensor3d([0, 1].map((head) => Array.from(rows, (row) => Array.from({ length: 6 }, (__, column) => given(head, row, column))))),
      6,
    );

  it('multiplies what a token gets from visual rows by what it gets from the text behind them, each place with its largest head', async () => {
    const run = createPruner({ method: 'fitprune', recipe: [1, 0, 0, 0], patches: 3 }).begin(request([3]));
    // From visual rows 3, 3, 3 x (0.1, 0.2, 0.3); from text rows 4 and 5, head 1 alone gives column 1 much.
    const attention = (head: number, row: number, column: number) => (row <= 3 ? 0.1 * column : 0.1 + (column === 1 ? 0.8 * head : 0));
    expect(await run.afterAttention?.(view(0, attention))).toEqual({ keep: Int32Array.of(0, 2) });
    expect(await run.afterAttention?.(view(1, attention))).toBeUndefined();
  });

  it('deletes the later of equal tokens, and never the last one', async () => {
    const equal = () => 0.1;
    const run = createPruner({ method: 'fitprune', recipe: [2, 0, 0, 0], patches: 3 }).begin(request([3]));
    expect(await run.afterAttention?.(view(0, equal))).toEqual({ keep: Int32Array.of(0) });
  });

  it('refuses attention that is no number, and leaves no tensor behind', async () => {
    const run = createPruner({ method: 'fitprune', recipe: [1, 0, 0, 0], patches: 3 }).begin(request([3]));
    const before = tf.memory().numTensors;
    await expect(run.afterAttention?.(view(0, () => Number.NaN))).rejects.toMatchObject({ code: 'ATTENTION_NOT_FINITE' });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('scales a recipe to crops of other sizes by its running sums', () => {
    const pruner = createPruner({ method: 'fitprune', recipe: [10, 5, 5, 0], patches: 40 });
    expect(pruner.enteringTokens(40, 4)).toEqual([40, 30, 25, 20]);
    expect(pruner.enteringTokens(20, 4)).toEqual([20, 15, 12, 10]);
    expect(pruner.enteringTokens(1, 4)).toEqual([1, 1, 1, 1]);
  });

  it.each([
    [{ recipe: undefined, patches: 4 }, 'RECIPE_INVALID', 'vispruner tune fitprune'],
    [{ recipe: [], patches: 4 }, 'RECIPE_INVALID', '[]'],
    [{ recipe: [1, -1], patches: 4 }, 'RECIPE_INVALID', '[1, -1]'],
    [{ recipe: [1, 0.5], patches: 4 }, 'RECIPE_INVALID', '[1, 0.5]'],
    [{ recipe: [3, 1], patches: 4 }, 'RECIPE_INVALID', 'deletes 4 of 4'],
    [{ recipe: [1, 1] }, 'TOKENS_INVALID', '"patches" is undefined'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'fitprune', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses a recipe for another depth', () => {
    expect(() => createPruner({ method: 'fitprune', recipe: [1, 1], patches: 4 }).begin(request([4], clip, 4))).toThrow(
      'has 2 numbers, but the decoder has 4 blocks',
    );
  });

  it.each([4, 32])('meets averages to half a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    for (const patches of [64, 256, 576]) {
      for (const share of [1, 0.8, 0.5, 0.28, 0.1]) {
        const options = fitPruneMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (share < 1 / blocks) expect(options).toBeUndefined();
        else {
          const entering = createPruner(options as PruneOptions).enteringTokens(patches, blocks) as number[];
          expect(Math.abs(entering.reduce((sum, count) => sum + count, 0) / blocks - patches * share)).toBeLessThanOrEqual(0.5);
        }
      }
    }
  });
});
