import * as tf from '@tensorflow/tfjs';
import { kneeCount } from '../../../lib/prune/interaction';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';
import { clip, decoderView, request, visionView } from './views';

const { cases } = readJson<{ cases: readonly { readonly scores: readonly number[]; readonly kept: number }[] }>('methods', 'interaction.json');
const need = { block: clip.featureBlock, rows: 'class' } as const;

/** Attention of one head in block 1 of 4, before block 2: rows are given from the first one on. */
const looking = (map: readonly (readonly number[])[], visual: readonly number[], block = 2) =>
  decoderView(block, visual, (_block, rows) => tf.tensor3d([Array.from(rows, (row) => [...(map[row] as readonly number[])])]), map.length);

describe('kneeCount', () => {
  it.each(cases.map((one) => [one.kept, one.scores.length, one] as const))(
    'cuts after %i of %i, where the sorted curve is farthest from its chord',
    (kept, _size, one) => {
      expect(kneeCount(Float32Array.from(one.scores))).toBe(kept);
    },
  );

  it('keeps all where nothing bends, and never none', () => {
    expect(kneeCount(new Float32Array(5).fill(0.2))).toBe(5);
    expect(kneeCount(Float32Array.of(1, 2, 3, 4))).toBe(4);
    expect(kneeCount(Float32Array.of(0.3))).toBe(1);
    expect(kneeCount(Float32Array.of(9, 1, 1, 1, 1))).toBe(2); // the corner itself belongs to the kept
  });
});

describe.each(BACKENDS)('interaction on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('keeps before the decoder what the class token looks at, up to the knee or by a count', async () => {
    const [one] = cases as [(typeof cases)[number]];
    const order = [...one.scores.keys()].sort((a, b) => (one.scores[b] as number) - (one.scores[a] as number) || a - b);
    const [features, attention] = [
      tf.zeros<tf.Rank.R2>([one.scores.length, 3]),
      tf.tensor2d([[...one.scores], one.scores.map((score) => 2 * score)]),
    ];
    const keptBy = async (options: object) => {
      const run = createPruner({ method: 'interaction', ...options } as PruneOptions).begin(request([one.scores.length]));
      return Array.from((await run.select?.(visionView(features, attention, need)))?.kept ?? []);
    };
    await withoutLeaks(async () => {
      expect(await keptBy({})).toEqual(order.slice(0, one.kept).sort((a, b) => a - b));
      expect(await keptBy({ tokens: 7 })).toEqual(order.slice(0, 7).sort((a, b) => a - b));
    });
    tf.dispose([features, attention]);
  });

  it('keeps inside the decoder what text looks at at least as much as at the mean, once, or a count: worked out by hand', async () => {
    // text, visual x 4, text, text: the visual tokens get 0.4, 0.1, 0.5, 0.2 from the two text rows behind them; mean 0.3
    const map = [
      [1, 0, 0, 0, 0, 0, 0],
      ...Array.from({ length: 4 }, () => [0.9, 0.1, 0, 0, 0, 0, 0]),
      [0.2, 0.2, 0.05, 0.3, 0.1, 0.15, 0],
      [0.3, 0.2, 0.05, 0.2, 0.1, 0.1, 0.05],
    ];
    const reduced = async (options: object, block = 2) => {
      const run = createPruner({ method: 'interaction', layer: 2, ...options } as PruneOptions).begin(request([9]));
      return (await run.beforeBlock?.(looking(map, [1, 2, 3, 4], block)))?.keep;
    };
    await withoutLeaks(async () => {
      expect(Array.from((await reduced({})) ?? [])).toEqual([0, 2]);
      expect(Array.from((await reduced({ tokens: 4, finalTokens: 3 })) ?? [])).toEqual([0, 2, 3]);
      expect(await reduced({ tokens: 4, finalTokens: 4 })).toBeUndefined();
      expect([await reduced({}, 1), await reduced({}, 3)]).toEqual([undefined, undefined]);
    });
  });
});

describe('the method interaction', () => {
  it.each([
    [{ tokens: 0 }, 'TOKENS_INVALID', '"tokens" is 0'],
    [{ tokens: 4, finalTokens: 5 }, 'TOKENS_INVALID', '"finalTokens" is 5'],
    [{ layer: 0 }, 'LAYER_INVALID', '"layer" is 0'],
    [{ layer: 4 }, 'LAYER_INVALID', 'up to 3'],
    [{ tokens: 10 }, 'TOKENS_EXCEED_PATCHES', '10'],
  ])('refuses %p for 9 patches and 4 blocks', (options, code, message) => {
    const begin = () => createPruner({ method: 'interaction', ...options } as PruneOptions).begin(request([9]));
    expect(begin).toThrow(expect.objectContaining({ name: 'PruneError', code, message: expect.stringContaining(message) }));
  });

  it('says what enters where both counts are given, and that it depends on the image otherwise', () => {
    const entering = (options: object) => createPruner({ method: 'interaction', ...options } as PruneOptions).enteringTokens(36, 8);
    expect(entering({ tokens: 20, finalTokens: 6, layer: 3 })).toEqual([20, 20, 20, 6, 6, 6, 6, 6]);
    expect([entering({}), entering({ tokens: 20 })]).toEqual([undefined, undefined]);
  });
});
