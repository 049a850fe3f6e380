import * as tf from '@tensorflow/tfjs';
import { featherMethod } from '../../../lib/prune/feather';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import type { DecoderView, RequestView } from '../../../lib/prune/types';
import { useBackend } from '../../support/backends';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request } from './views';

describeRecorded('feather');

const mean = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0) / counts.length;

describe('FEATHER', () => {
  beforeAll(() => useBackend('cpu'));

  /** All but the last row are visual, and attended to as given by each head. */
  const view = (block: number, heads: readonly (readonly number[])[], more: Partial<DecoderView> = {}): DecoderView => {
    const count = (heads[0] as readonly number[]).length;
    const visual = Array.from({ length: count }, (_, i) => i);
    const rows: DecoderView['attentionRows'] = (asked, some, options) => {
      expect([asked, ...some, options]).toEqual([block - 1, count, { rotary: false }]);
      return tf.tensor3d(heads.map((head) => [[...head, 0.5]]));
    };
    const base = decoderView(block, visual, rows, count + 1);
    return Object.defineProperties(base, Object.getOwnPropertyDescriptors(more)) as DecoderView;
  };
  const crops = (...grids: [number, number][]): RequestView => ({
    ...request(grids.map(([rows, columns]) => rows * columns)),
    grids: grids.map(([rows, columns]) => ({ rows, columns })),
  });

  it('keeps the most attended tokens and every third of every third row', async () => {
    const run = createPruner({ method: 'feather', layers: [1, 2], removed: 0.9 }).begin(crops([4, 5]));
    const attention = Array.from({ length: 20 }, (_, i) => 0.01 * i);
    expect(await run.beforeBlock?.(view(1, [attention]))).toEqual({ keep: Int32Array.of(0, 3, 15, 18, 19) });
  });

  it('keeps, at the second layer, (1 - r)^2 of what is left, grid or not', async () => {
    const run = createPruner({ method: 'feather', layers: [1, 2], removed: 0.5 }).begin(crops([2, 4]));
    expect(await run.beforeBlock?.(view(2, [[0.1, 0.2, 0.9, 0.3, 0.1, 0.4, 0.1, 0.1]]))).toEqual({ keep: Int32Array.of(2, 5) });
  });

  it('weighs heads alike, however little of each goes to the image, and none that gives it nothing', async () => {
    const run = createPruner({ method: 'feather', layers: [1, 2], ratios: [0.4, 0.2], stride: 9 }).begin(crops([1, 5]));
    const heads = [
      [0.001, 0.002, 0.002, 0.095, 0], // nearly all to token 3
      [3e-8, 1e-8, 4e-8, 0, 0],
      [0, 0, 0, 0, 0],
    ];
    expect(await run.beforeBlock?.(view(1, heads))).toEqual({ keep: Int32Array.of(0, 3) });
    expect(await run.beforeBlock?.(view(2, heads))).toEqual({ keep: Int32Array.of(3) });
  });

  it('has a grid in every crop, on which no merged token is', async () => {
    const run = createPruner({ method: 'feather', layers: [1, 2], removed: 0.875, stride: 2 }).begin(crops([1, 4], [2, 2]));
    const origins = { crops: Int32Array.of(0, 0, 0, 0, 1, 1, 1), patches: Int32Array.of(0, 1, 2, 3, -1, 0, 3) };
    const attention = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.1];
    const given = view(1, [attention.slice(0, 7)], { origins, originalIndices: Int32Array.of(0, 1, 2, 3, 4, 5, 6) });
    expect(await run.beforeBlock?.(given)).toEqual({ keep: Int32Array.of(0, 2, 5, 6) });
  });

  it('fills up a fixed count behind the grid, and takes the best of a grid that is too large', async () => {
    const attention = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7];
    const keep = async (first: number) => {
      const run = createPruner({ method: 'feather', layers: [1, 2], ratios: [first, 0.1], stride: 2 }).begin(crops([1, 6]));
      return (await run.beforeBlock?.(view(1, [attention])))?.keep;
    };
    expect(await keep(4 / 6)).toEqual(Int32Array.of(0, 1, 2, 4));
    expect(await keep(2 / 6)).toEqual(Int32Array.of(2, 4));
    expect(await keep(1)).toBeUndefined();
  });

  it.each([
    [{ removed: 1.1 }, 'KEEP_RATIO_INVALID'],
    [{ removed: 0.5, ratios: [0.5, 0.1] }, 'BUDGET_AMBIGUOUS'],
    [{ ratios: [0.5] }, 'RATIOS_INVALID'],
    [{ layers: [1] }, 'LAYER_INVALID'],
    [{ layers: [0, 1] }, 'LAYER_INVALID'],
    [{ stride: 0 }, 'STEP_INVALID'],
    [{ step: 1 }, 'METHOD_OPTION_UNKNOWN'],
  ])('refuses %p', (options, code) => {
    expect(() => createPruner({ method: 'feather', ...options } as PruneOptions)).toThrow(expect.objectContaining({ name: 'PruneError', code }));
  });

  it('refuses layers behind the last block', () => {
    expect(() => createPruner({ method: 'feather', layers: [2, 4] }).begin(request([4], clip, 4))).toThrow('Give layers up to 3');
  });

  it('does not know beforehand how many tokens grid and attention are together', () => {
    expect(createPruner({ method: 'feather' }).enteringTokens(576, 32)).toBeUndefined();
  });

  it.each([2, 4, 16, 32])('meets averages to a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    let met = 0;
    for (const patches of [64, 256, 576]) {
      for (const share of [1, 0.8, 0.6, 0.35, 0.1]) {
        const options = featherMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (!options) continue;
        met++;
        const entering = createPruner(options).enteringTokens(patches, blocks) as number[];
        expect(Math.abs(mean(entering) - patches * share)).toBeLessThanOrEqual(0.75);
      }
    }
    expect(met).toBeGreaterThanOrEqual(9);
    expect(featherMethod.forAverage?.(0.1, { patches: 64, decoderBlocks: blocks })).toBeUndefined();
  });
});
