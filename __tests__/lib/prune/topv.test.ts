import * as tf from '@tensorflow/tfjs';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { topAndRecovered, topVMethod } from '../../../lib/prune/topv';
import { optimalTransport } from '../../../lib/prune/transport';
import { useBackend, withoutLeaks } from '../../support/backends';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request } from './views';

describeRecorded('topv');

describe('what sources hand out in an optimal transport that is broken off', () => {
  it('after one round is a softmax over the sources of each target', () => {
    const cost = Float32Array.of(0, 1, Math.LN2, 1); // targets: 0 against ln 2, 1 against 1
    const given = optimalTransport(cost, 2, { epsilon: 1, iterations: 1 });
    expect(given[0]).toBeCloseTo(2 / 3 + 1 / 2, 6);
    expect(given[1]).toBeCloseTo(1 / 3 + 1 / 2, 6);
  });

  it('after many rounds is how much each must be held back for all to hand out the same', () => {
    const cost = Float32Array.from({ length: 25 }, (_, at) => ((at * 7) % 11) / 11 + Math.floor(at / 5) / 10);
    const given = optimalTransport(cost, 5, { epsilon: 0.3, iterations: 60 });
    const kernel = Array.from({ length: 5 }, (_, i) => Array.from({ length: 5 }, (_, j) => Math.exp(-cost[5 * i + j]! / 0.3) / given[i]!));
    const columns = [0, 1, 2, 3, 4].map((j) => kernel.reduce((sum, row) => sum + row[j]!, 0));
    for (const row of kernel) expect(row.reduce((sum, value, j) => sum + value / columns[j]!, 0)).toBeCloseTo(1, 5);
  });

  it('of sources that cost the same as ever but one more for every target, is less for the dearer', () => {
    for (const iterations of [1, 3, 50]) {
      const given = optimalTransport(Float32Array.of(1, 2, 3, 2, 3, 4, 1, 2, 3), 3, { epsilon: 1, iterations });
      expect(given[1]! / given[0]!).toBeCloseTo(Math.exp(-1), 5);
      expect(given[2]! / given[0]!).toBeCloseTo(1, 5);
    }
  });

  it('does not come to NaN where costs are far above epsilon', () => {
    const given = optimalTransport(Float32Array.of(0, 5, 900, 5, 0, 900, 1000, 1000, 1000), 3, { epsilon: 1e-3, iterations: 3 });
    expect(given.every(Number.isFinite)).toBe(true);
    expect(given[2]).toBe(0);
  });
});

describe('TopV', () => {
  it('takes back tokens at even distances from among those that would go', () => {
    const importance = Float32Array.of(9, 1, 8, 1, 1, 7, 1, 1, 1);
    expect([...topAndRecovered(importance, 3, 0)]).toEqual([0, 2, 5]);
    expect([...topAndRecovered(importance, 5, 2)]).toEqual([0, 2, 3, 5, 7]); // 1 3 4 | 6 7 8: the middle of each
    expect([...topAndRecovered(importance, 4, 1)]).toEqual([0, 2, 5, 6]);
    expect([...topAndRecovered(importance, 2, 2)]).toEqual([2, 6]);
    expect([...topAndRecovered(new Float32Array(3), 2, 0)]).toEqual([0, 1]);
    expect([...topAndRecovered(importance, 9, 0)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  /** Two crops of 2 x 2 patches before text; every state is the same but what `change` makes of them. */
  async function kept(options: object, change: (states: number[][]) => void): Promise<number[]> {
    await useBackend('cpu');
    const states = Array.from({ length: 10 }, () => [1, 1]);
    change(states);
    return withoutLeaks(async () => {
      const tensor = tf.tensor2d(states);
      const view = Object.defineProperties(
        decoderView(1, [1, 2, 3, 4, 5, 6, 7, 8], () => tf.zeros([1, 1, 1]), 10),
        {
          states: { value: tensor },
          attended: { value: () => tensor },
          origins: { value: { crops: Int32Array.of(0, 0, 0, 0, 1, 1, 1, 1), patches: Int32Array.of(0, 1, 2, 3, 0, 1, 2, 3) } },
        },
      );
      const grids = [
        { rows: 2, columns: 2 },
        { rows: 2, columns: 2 },
      ];
      const run = createPruner({ method: 'topv', tokens: 1, layer: 1, recovery: 0, ...options } as PruneOptions).begin({ ...request([4, 4]), grids });
      try {
        return [...((await run.afterAttention?.(view))?.keep ?? [])];
      } finally {
        tensor.dispose();
      }
    });
  }

  it('prefers, of two crops, the tokens that stand for others: nearness counts inside a crop alone', async () => {
    const lonely = (states: number[][]) => {
      for (const [i, row] of [2, 3, 4].entries()) states[row] = [100 * (i + 1), -100]; // tokens 1, 2 and 3 are like no other
    };
    expect((await kept({ distanceWeight: 0, centreWeight: 0, iterations: 1 }, lonely)).some((token) => [1, 2, 3].includes(token))).toBe(false);
    expect(await kept({ featureWeight: 0, centreWeight: 0 }, () => {})).toEqual([0, 1]); // all alike: the first
  });

  it('refuses states that are not numbers', async () => {
    const broken = kept({}, (states) => {
      states[3] = [Number.NaN, 1];
    });
    await expect(broken).rejects.toMatchObject({ code: 'FEATURES_NOT_FINITE' });
  });

  it.each([4, 16, 32])('meets averages to half a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    let met = 0;
    for (const patches of [36, 64, 576]) {
      for (const share of [1, 0.9, 0.5, 0.3, 0.22, 0.11]) {
        const options = topVMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (!options) continue;
        met++;
        const entering = createPruner(options).enteringTokens(patches, blocks) as number[];
        expect(Math.abs(entering.reduce((sum, count) => sum + count, 0) / blocks - patches * share)).toBeLessThanOrEqual(0.5);
      }
    }
    expect(met).toBeGreaterThan(blocks === 4 ? 11 : 17);
    expect(topVMethod.forAverage?.(1, { patches: 576, decoderBlocks: blocks })).toBeUndefined();
  });

  it.each([
    [{ tokens: 5, layer: -1 }, 'LAYER_INVALID', '"layer" is -1'],
    [{ tokens: 5, sigma: 0 }, 'METHOD_OPTION_INVALID', '"sigma" is 0. Give a number above 0'],
    [{ tokens: 5, epsilon: Number.NaN }, 'METHOD_OPTION_INVALID', '"epsilon" is NaN'],
    [{ tokens: 5, featureWeight: -1 }, 'METHOD_OPTION_INVALID', '"featureWeight" is -1'],
    [{ tokens: 5, iterations: 0 }, 'METHOD_OPTION_INVALID', '"iterations" is 0'],
    [{ tokens: 5, recovery: 1.5 }, 'METHOD_OPTION_INVALID', '"recovery" is 1.5'],
    [{}, 'BUDGET_MISSING', 'tokens'],
    [{ tokens: 5, alpha: 1 }, 'METHOD_OPTION_UNKNOWN', 'alpha'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'topv', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses a layer behind which no block is left', () => {
    expect(() => createPruner({ method: 'topv', tokens: 2, layer: 3 }).begin(request([4], clip, 4))).toThrow('Give 0 to 2');
    expect(() => createPruner({ method: 'topv', tokens: 2 }).begin(request([4], clip, 1))).toThrow(
      expect.objectContaining({ code: 'LAYER_INVALID' }),
    );
  });
});
