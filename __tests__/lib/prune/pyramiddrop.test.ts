import * as tf from '@tensorflow/tfjs';
import { pyramidDropMethod } from '../../../lib/prune/pyramiddrop';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { useBackend } from '../../support/backends';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request } from './views';

describeRecorded('pyramiddrop');

const average = (options: PruneOptions, patches: number, blocks: number) => {
  const entering = createPruner(options).enteringTokens(patches, blocks) as number[];
  return entering.reduce((sum, count) => sum + count, 0) / blocks;
};

describe('PyramidDrop', () => {
  it('halves at 8, 16 and 24 of 32 blocks: 576, 288, 144, 72 tokens, 270 on average', () => {
    const entering = createPruner({ method: 'pyramiddrop' }).enteringTokens(576, 32) as number[];
    expect([0, 7, 8, 15, 16, 23, 24, 31].map((block) => entering[block])).toEqual([576, 576, 288, 288, 144, 144, 72, 72]);
    expect(average({ method: 'pyramiddrop' }, 576, 32)).toBe(270);
  });

  it.each([
    [32, [8, 16, 24]],
    [24, [6, 12, 18]],
    [4, [1, 2, 3]],
    [3, [1, 2]],
    [2, [1]],
  ])('has its stages in a decoder of %i blocks begin at %p', (blocks, layers) => {
    const entering = createPruner({ method: 'pyramiddrop' }).enteringTokens(64, blocks) as number[];
    expect(entering.flatMap((count, block) => (block > 0 && count < (entering[block - 1] as number) ? [block] : []))).toEqual(layers);
  });

  it('refuses a decoder of one block, in which it would do nothing', () => {
    expect(() => createPruner({ method: 'pyramiddrop' }).begin(request([4], clip, 1))).toThrow('The decoder has 1 blocks');
  });

  it.each([
    [{ ratio: 0 }, 'KEEP_RATIO_INVALID', '"ratio" is 0'],
    [{ ratio: 1.5 }, 'KEEP_RATIO_INVALID', '"ratio" is 1.5'],
    [{ ratio: 0.5, ratios: [0.5, 0.2, 0.1] }, 'BUDGET_AMBIGUOUS', 'Both "ratio" and "ratios"'],
    [{ ratios: [0.5, 0.2] }, 'RATIOS_INVALID', 'a list of 3, one a layer'],
    [{ ratios: [0.5, 0.6, 0.1] }, 'RATIOS_INVALID', '"ratios" is [0.5, 0.6, 0.1]'],
    [{ ratios: [Number.NaN, 0.6, 0.1] }, 'RATIOS_INVALID', 'NaN'],
    [{ layers: [] }, 'LAYER_INVALID', '"layers" is []'],
    [{ layers: 3 }, 'LAYER_INVALID', '"layers" is 3'],
    [{ layers: [3, 3] }, 'LAYER_INVALID', 'each above the one before'],
    [{ layers: [-1, 3] }, 'LAYER_INVALID', 'at least 0'],
    [{ layers: ['2'] }, 'LAYER_INVALID', '"2"'],
    [{ tokens: 5 }, 'METHOD_OPTION_UNKNOWN', 'layers, ratio, ratios'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'pyramiddrop', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses layers behind the last block once the decoder is known', () => {
    const pruner = createPruner({ method: 'pyramiddrop', layers: [2, 4] });
    expect(() => pruner.begin(request([4], clip, 4))).toThrow('option "layers" ends at 4');
  });

  it.each([
    [192, { method: 'pyramiddrop', ratio: 0.253 }],
    [64, { method: 'pyramiddrop', layers: [2, 8, 16], ratio: 0.192 }],
  ])('solves lambda for an average of %i of 576 tokens, as the published advice has it', (target, near) => {
    const found = pyramidDropMethod.forAverage?.(target, { patches: 576, decoderBlocks: 32 });
    expect(found).toMatchObject({ ...near, ratio: expect.closeTo(near.ratio, 2) });
  });

  it.each([4, 5, 24, 32])('meets averages to half a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    let met = 0;
    for (const patches of [64, 256, 576]) {
      for (const share of [1, 0.8, 0.5, 0.22, 0.11, 0.056, 0.028]) {
        const options = pyramidDropMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (!options) continue;
        met++;
        expect(Math.abs(average(options, patches, blocks) - patches * share)).toBeLessThanOrEqual(0.5);
      }
    }
    expect(met).toBeGreaterThan(17);
    expect(pyramidDropMethod.forAverage?.(0.4, { patches: 64, decoderBlocks: blocks })).toBeUndefined();
    expect(average(pyramidDropMethod.forAverage?.(64, { patches: 64, decoderBlocks: blocks }) as PruneOptions, 64, blocks)).toBe(64);
  });

  describe('on a given row of attention', () => {
    beforeAll(() => useBackend('cpu'));
    const view = (attention: number[], block = 1) =>
      decoderView(
        block,
        [1, 2, 3, 5],
        (asked, rows) => {
          expect([asked, ...rows]).toEqual([block, attention.length - 1]);
          return tf.tensor3d([[attention]]);
        },
        attention.length,
      );

    it('keeps the earlier of equal tokens', async () => {
      const run = createPruner({ method: 'pyramiddrop', layers: [1], ratio: 0.5 }).begin(request([4]));
      expect(await run.beforeBlock?.(view([9, 0.2, 0.2, 0.1, 9, 0.2, 9]))).toEqual({ keep: Int32Array.of(0, 1) });
    });

    it('adds up the counts of several crops and ranks their tokens together', async () => {
      const run = createPruner({ method: 'pyramiddrop', layers: [1], ratio: 0.5 }).begin(request([2, 2]));
      expect(await run.beforeBlock?.(view([9, 0.1, 0.2, 0.3, 9, 0.4, 9]))).toEqual({ keep: Int32Array.of(2, 3) });
    });

    it('keeps one token where less than one would be left', async () => {
      const run = createPruner({ method: 'pyramiddrop', layers: [1], ratio: 0.01 }).begin(request([4]));
      expect(await run.beforeBlock?.(view([9, 0.1, 0.2, 0.3, 9, 0.1, 9]))).toEqual({ keep: Int32Array.of(2) });
    });

    it('refuses attention that is no number, and leaves no tensor behind', async () => {
      const run = createPruner({ method: 'pyramiddrop', layers: [1], ratio: 0.5 }).begin(request([4]));
      const before = tf.memory().numTensors;
      await expect(run.beforeBlock?.(view([0, 0.1, Number.NaN, 0.3, 0, 0.1, 0]))).rejects.toMatchObject({ code: 'ATTENTION_NOT_FINITE' });
      expect(tf.memory().numTensors).toBe(before);
    });
  });
});
