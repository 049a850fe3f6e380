import * as tf from '@tensorflow/tfjs';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { disperseFrom, mutualAttention, selectDispersed } from '../../../lib/prune/todre';
import type { DecoderView } from '../../../lib/prune/types';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';
import { clip, decoderView, request, visionView } from './views';

interface Recorded {
  readonly tokens: readonly (readonly number[])[];
  readonly attention: readonly (readonly number[])[];
  readonly pivot: number;
  readonly count: number;
  readonly kept: readonly number[];
}

const { cases } = readJson<{ cases: readonly Recorded[] }>('methods', 'todre.json');
const titled = cases.map((one) => [`${one.count} of ${one.tokens.length}`, one] as const);

describe.each(BACKENDS)("ToDRE's first stage on %s", (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(titled)('keeps the tokens that are least like all chosen before: %s', async (_title, one) => {
    const tokens = tf.tensor2d(one.tokens as number[][]);
    expect(Array.from(await withoutLeaks(() => selectDispersed(tokens, one.pivot, one.count)))).toEqual(one.kept);
    tokens.dispose();
  });

  it.each(titled)('begins with the highest class attention of the last block: %s', async (_title, one) => {
    const size = one.tokens.length;
    const [features, projected, attention] = [
      tf.zeros<tf.Rank.R2>([size, 3]),
      tf.tensor2d(one.tokens as number[][]),
      tf.tensor2d(one.attention as number[][]),
    ];
    const pruner = createPruner({ method: 'todre', tokens: one.count });
    const last = { block: clip.blocks - 1, rows: 'class' } as const;
    expect(pruner.needs(clip).attention).toEqual([last]);
    await withoutLeaks(async () => {
      const selection = await pruner.begin(request([size])).select?.(visionView(features, attention, last, { projected }));
      expect(Array.from(selection?.kept ?? [])).toEqual(one.kept);
    });
    tf.dispose([features, projected, attention]);
  });
});

describe('disperseFrom', () => {
  it('adds similarities up, and does not take the nearest alone: worked out by hand', () => {
    // after 0 and 1, token 2 adds up to 0.9 + -0.5 and token 3 to 0.3 + 0.3: by the nearest alone it would be 3
    const similarity = Float32Array.of(1, -0.9, 0.9, 0.3, -0.9, 1, -0.5, 0.3, 0.9, -0.5, 1, 0, 0.3, 0.3, 0, 1);
    expect(Array.from(disperseFrom(similarity, 4, 0, 2))).toEqual([0, 1]);
    expect(Array.from(disperseFrom(similarity, 4, 0, 3))).toEqual([0, 1, 2]);
  });

  it('chooses the lower of equal sums, and none twice', () => {
    expect(Array.from(disperseFrom(new Float32Array(16).fill(1), 4, 2, 3))).toEqual([0, 1, 2]);
    expect(() => disperseFrom(new Float32Array(16), 4, 0, 5)).toThrow(expect.objectContaining({ code: 'TOKENS_INVALID' }));
  });
});

describe("ToDRE's second stage", () => {
  beforeAll(() => useBackend('cpu'));

  /** A sequence whose attention map, one head, is given by rows. */
  const looking = (map: readonly (readonly number[])[], visual: readonly number[], block = 1): DecoderView =>
    decoderView(block, visual, (_block, rows) => tf.tensor3d([Array.from(rows, (row) => [...(map[row] as readonly number[])])]), map.length);

  // system, visual, visual, text, visual, text: rows add up to 1
  const map = [
    [1, 0, 0, 0, 0, 0],
    [0.5, 0.5, 0, 0, 0, 0],
    [0.4, 0.3, 0.3, 0, 0, 0],
    [0.8, 0.1, 0.05, 0.05, 0, 0],
    [0.2, 0.1, 0.1, 0.5, 0.1, 0],
    [0.7, 0.01, 0.02, 0.1, 0.02, 0.15],
  ];

  it('measures what text gives to visual tokens, and visual tokens to text before them: worked out by hand', async () => {
    const { textToVisual, visualToText } = await withoutLeaks(() => mutualAttention(looking(map, [1, 2, 4])));
    expect(textToVisual).toBeCloseTo((0.15 + 0.05) / 2, 6); // rows 3 and 5
    expect(visualToText).toBeCloseTo(0.5 / 3, 6); // row 4 alone has text to see: the system before the image is none
  });

  it.each([
    [0.2, [1, 2, 4], true],
    [0.15, [1, 2, 4], false], // visual tokens look at the text between images
    [0.09, [1, 2, 4], false],
    [0.13, [1, 2], true], // row 3 with 0.15, row 4 with 0.2, row 5 with 0.03: 0.127
    [0.12, [1, 2], false],
  ] as const)('withdraws all visual tokens below tau = %p of %p: %p', async (tau, visual, withdrawn) => {
    const run = createPruner({ method: 'todre', tokens: 3, tau, layer: 1 }).begin(request([3]));
    expect(await run.afterBlock?.(looking(map, visual, 0))).toBeUndefined();
    const reduction = await run.afterBlock?.(looking(map, visual));
    expect(reduction).toEqual(withdrawn ? { keep: new Int32Array(0) } : undefined);
  });

  it('stands behind block 28 of 32, and never behind the last one', async () => {
    const asked = async (blocks: number) => {
      const run = createPruner({ method: 'todre', tokens: 3, tau: 1 }).begin(request([3], clip, blocks));
      const found: number[] = [];
      for (let block = 0; block < blocks; block++) if (await run.afterBlock?.(looking(map, [1, 2, 4], block))) found.push(block);
      return found;
    };
    expect([await asked(32), await asked(8), await asked(4), await asked(2), await asked(1)]).toEqual([[28], [6], [2], [0], []]);
  });

  it('is not there without withdrawal: caches can be reused, and the tokens are known beforehand', () => {
    const [one, both] = [createPruner({ method: 'todre', tokens: 3, withdraw: false }), createPruner({ method: 'todre', tokens: 3 })];
    expect([one.textDependent, both.textDependent]).toEqual([false, true]);
    expect([one.enteringTokens(9, 2), both.enteringTokens(9, 2)]).toEqual([[3, 3], undefined]);
    expect(one.begin(request([9])).afterBlock).toBeUndefined();
  });

  it('refuses NaN in the attention', async () => {
    const bad = map.map((row) => row.map(() => Number.NaN));
    await expect(mutualAttention(looking(bad, [1, 2]))).rejects.toMatchObject({ code: 'ATTENTION_NOT_FINITE' });
  });

  it.each([
    [{ tau: -1 }, 'METHOD_OPTION_INVALID', '"tau" is -1'],
    [{ withdraw: 'no' }, 'METHOD_OPTION_INVALID', '"withdraw" is "no"'],
    [{ layer: 1.5 }, 'LAYER_INVALID', '"layer" is 1.5'],
    [{ layer: 3 }, 'LAYER_INVALID', 'up to 2'], // of 4 blocks
  ])('refuses %p', (options, code, message) => {
    const begin = () => createPruner({ method: 'todre', tokens: 3, ...options } as PruneOptions).begin(request([9]));
    expect(begin).toThrow(expect.objectContaining({ name: 'PruneError', code, message: expect.stringContaining(message) }));
  });
});
