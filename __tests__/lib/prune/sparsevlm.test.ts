import * as tf from '@tensorflow/tfjs';
import { finish } from '../../../lib/pacer';
import { densityPeaks } from '../../../lib/prune/density_peaks';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { sparseVlmMethod } from '../../../lib/prune/sparsevlm';
import { textRaters } from '../../../lib/prune/sparsevlm_scores';
import type { DecoderView } from '../../../lib/prune/types';
import { useBackend } from '../../support/backends';
import { readJson } from '../../support/recorded';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request } from './views';

describeRecorded('sparsevlm');

const entering = (options: Omit<PruneOptions, 'method'>, patches: number, blocks: number) =>
  createPruner({ method: 'sparsevlm', ...options } as PruneOptions).enteringTokens(patches, blocks) as number[];
const mean = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0) / counts.length;

describe('clusters by density peaks', () => {
  it('are those that numpy finds in the definition', () => {
    const { points, width, centres, cluster } = readJson<{ points: number[]; width: number; centres: number[]; cluster: number[] }>(
      'methods',
      'density_peaks.json',
    );
    const found = finish(densityPeaks(Float32Array.from(points), width, centres.length));
    expect({ centres: Array.from(found.centres), cluster: Array.from(found.cluster) }).toEqual({ centres, cluster });
  });

  it('of equal points are the first ones, which the others join', () => {
    const { centres, cluster } = finish(densityPeaks(new Float32Array(8), 2, 2));
    expect(Array.from(centres)).toEqual([0, 1]);
    expect(Array.from(cluster)).toEqual([0, 1, 0, 0]);
  });

  it('of one point is that point', () => {
    const { centres, cluster } = finish(densityPeaks(Float32Array.of(1, 2), 2, 1));
    expect([...centres, ...cluster]).toEqual([0, 0]);
  });
});

describe('SparseVLM', () => {
  it.each([
    [192, [309, 204, 113], 206.5],
    [128, [312, 117, 39], 145.4],
    [96, [249, 55, 27], 114.1],
    [64, [82, 32, 18], 82.3],
  ] as const)('has, of the published list %i, so many tokens behind each layer, merged ones among them', (target, counts, average) => {
    const found = entering({ target }, 576, 32);
    expect([2, 3, 6, 7, 15, 16, 31].map((block) => found[block])).toEqual([576, counts[0], counts[0], counts[1], counts[1], counts[2], counts[2]]);
    expect(mean(found)).toBeCloseTo(average, 1);
  });

  it.each([
    [192, [300, 200, 118], 206.75],
    [128, [238, 108, 60], 144.1],
    [96, [246, 54, 28], 113.9],
    [64, [66, 34, 20], 81.8],
  ] as const)('merges nothing as SparseVLM+, of whose list %i those stay that it says', (target, counts, average) => {
    const found = entering({ version: 'plus', target }, 576, 32);
    expect([2, 3, 7, 16].map((block) => found[block])).toEqual([576, ...counts]);
    expect(mean(found)).toBeCloseTo(average, 1);
    expect(createPruner({ method: 'sparsevlm', version: 'plus' }).positions).toBe('keep');
    expect(createPruner({ method: 'sparsevlm' }).positions).toBe('compact');
  });

  it('does not know beforehand how many tokens version 1 leaves', () => {
    expect(createPruner({ method: 'sparsevlm', version: 1 }).enteringTokens(576, 32)).toBeUndefined();
  });

  it.each([
    [{ version: 2 }, 'VERSION_INVALID', "1, 1.5 or 'plus'"],
    [{ version: '1.5' }, 'VERSION_INVALID', '"1.5"'],
    [{ target: 100 }, 'TOKENS_INVALID', '64, 96, 128, 192'],
    [{ target: 64, ratios: [0.5, 0.4, 0.3] }, 'BUDGET_AMBIGUOUS', '"target" and "ratios"'],
    [{ ratios: [0.5, 0.4] }, 'RATIOS_INVALID', 'a list of 3'],
    [{ ratios: [0.5, 0.4, 0] }, 'RATIOS_INVALID', '[0.5, 0.4, 0]'],
    [{ layers: [1, 2] }, 'RATIOS_INVALID', '"layers" has 2'],
    [{ layers: [2, 1, 3] }, 'LAYER_INVALID', '[2, 1, 3]'],
    [{ version: 1, target: 64 }, 'METHOD_OPTION_UNKNOWN', '"target" is not one of SparseVLM\'s version 1'],
    [{ scale: 3 }, 'METHOD_OPTION_UNKNOWN', '"scale"'],
    [{ version: 1, scale: 0 }, 'TOKENS_INVALID', '"scale" is 0'],
    [{ version: 1, bias: Number.NaN }, 'TOKENS_INVALID', '"bias" is NaN'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'sparsevlm', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses to act behind the last block, where it would do nothing', () => {
    const pruner = createPruner({ method: 'sparsevlm', layers: [0, 1, 3] });
    expect(() => pruner.begin(request([4], clip, 4))).toThrow('Give layers up to 2');
  });

  it.each([4, 16, 32])('meets averages to a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    let met = 0;
    for (const patches of [64, 256, 576]) {
      for (const share of [1, 0.8, 0.5, 0.32, 0.22, 0.11, 0.056]) {
        const options = sparseVlmMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (!options) continue;
        met++;
        expect(Math.abs(mean(entering(options, patches, blocks)) - patches * share)).toBeLessThanOrEqual(1);
      }
    }
    expect(met).toBeGreaterThanOrEqual(blocks === 4 ? 12 : 18);
    expect(sparseVlmMethod.forAverage?.(1, { patches: 64, decoderBlocks: blocks })).toBeUndefined();
  });

  describe('text raters', () => {
    beforeAll(() => useBackend('cpu'));
    const embedded = (rows: readonly number[][], visual: readonly number[]): DecoderView => {
      const view = decoderView(0, visual, () => tf.zeros([1, 1, 1]), rows.length);
      return Object.defineProperty(view, 'states', { get: () => tf.tensor2d(rows as number[][]) }) as DecoderView;
    };

    it('are the text rows behind the image above the mean, counted from the end', async () => {
      // Visual rows 1 and 2 look like text row 4; row 0 is text, but before the image.
      expect(
        await textRaters(
          embedded(
            [
              [9, 0],
              [2, 0],
              [3, 0],
              [0, 1],
              [2, 0],
              [0, 2],
            ],
            [1, 2],
          ),
        ),
      ).toEqual(Int32Array.of(2));
    });

    it('are all of them where none stands out, and the last row where one or none follows', async () => {
      expect(
        await textRaters(
          embedded(
            [
              [1, 0],
              [0, 1],
              [0, 1],
              [0, 1],
            ],
            [0],
          ),
        ),
      ).toEqual(Int32Array.of(3, 2, 1));
      expect(
        await textRaters(
          embedded(
            [
              [1, 0],
              [0, 1],
            ],
            [0],
          ),
        ),
      ).toEqual(Int32Array.of(1));
      expect(
        await textRaters(
          embedded(
            [
              [1, 0],
              [0, 1],
            ],
            [0, 1],
          ),
        ),
      ).toEqual(Int32Array.of(1));
    });

    it('are refused where embeddings are no numbers', async () => {
      await expect(
        textRaters(
          embedded(
            [
              [1, 0],
              [Number.NaN, 1],
              [0, 1],
            ],
            [0],
          ),
        ),
      ).rejects.toMatchObject({ code: 'ATTENTION_NOT_FINITE' });
    });
  });
});
