import * as tf from '@tensorflow/tfjs';
import { hiMapMethod } from '../../../lib/prune/himap';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { useBackend } from '../../support/backends';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request } from './views';

describeRecorded('himap');

const mean = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0) / counts.length;
const entering = (options: PruneOptions, patches: number, blocks: number) => createPruner(options).enteringTokens(patches, blocks) as number[];

describe('HiMAP', () => {
  beforeAll(() => useBackend('cpu'));

  it('lets 576, 288 and 72 tokens into blocks of 32 as published, 144 on average', () => {
    const counts = entering({ method: 'himap' }, 576, 32);
    expect([0, 1, 2, 7, 8, 31].map((block) => counts[block])).toEqual([576, 576, 288, 288, 72, 72]);
    expect(mean(counts)).toBe(144);
  });

  it('adds up what all text rows give in the block before the first layer, and what visual rows give before the second', async () => {
    const asked: number[][] = [];
    const view = (block: number) =>
      decoderView(
        block,
        [1, 2, 4],
        (at, rows) => {
          asked.push([at, ...rows]);
          return tf.tensor3d([Array.from(rows, (row) => [0, 0.1 * row, 0.2, 0, 0.3, 0])]);
        },
        6,
      );
    const run = createPruner({ method: 'himap', layers: [1, 3], ratios: [0.67, 0.34] }).begin(request([3]));
    expect(await run.beforeBlock?.(view(1))).toEqual({ keep: Int32Array.of(0, 2) }); // 0.8, 0.6 and 0.9 of rows 0, 3 and 5
    expect(asked).toEqual([[0, 0, 3, 5]]);
    expect(await run.beforeBlock?.(view(3))).toEqual({ keep: Int32Array.of(2) });
    expect(asked[1]).toEqual([2, 1, 2, 4]);
    expect(await run.beforeBlock?.(view(2))).toBeUndefined();
  });

  it.each([
    [{ layers: [0, 2] }, 'LAYER_INVALID'],
    [{ ratios: [0.5] }, 'RATIOS_INVALID'],
    [{ ratios: [0.2, 0.5] }, 'RATIOS_INVALID'],
    [{ tokens: 5 }, 'METHOD_OPTION_UNKNOWN'],
  ])('refuses %p', (options, code) => {
    expect(() => createPruner({ method: 'himap', ...options } as PruneOptions)).toThrow(expect.objectContaining({ name: 'PruneError', code }));
  });

  it('refuses layers behind the last block', () => {
    expect(() => createPruner({ method: 'himap', layers: [2, 4] }).begin(request([4], clip, 4))).toThrow('Give layers up to 3');
  });

  it.each([2, 4, 16, 32])('meets averages to a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    let met = 0;
    for (const patches of [64, 256, 576]) {
      for (const share of [1, 0.8, 0.6, 0.3, 0.1]) {
        const options = hiMapMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (!options) continue;
        met++;
        expect(Math.abs(mean(entering(options, patches, blocks)) - patches * share)).toBeLessThanOrEqual(0.75);
      }
    }
    expect(met).toBeGreaterThanOrEqual(9);
    expect(hiMapMethod.forAverage?.(0.1, { patches: 64, decoderBlocks: blocks })).toBeUndefined();
  });
});
