import * as tf from '@tensorflow/tfjs';
import { dartMethod, leastAlike } from '../../../lib/prune/dart';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import type { DecoderView } from '../../../lib/prune/types';
import { useBackend } from '../../support/backends';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request } from './views';

describeRecorded('dart');

describe('DART takes turns', () => {
  it('each pivot taking what is least like it and still there, the first ones what is left over', () => {
    const likeness = [
      [0.9, 0.1, 0.2, 0.3, 0.4, 0.5],
      [0.9, 0.1, 0.2, 0.6, 0.4, 0.5],
    ].map((row) => Float32Array.from(row));
    expect(leastAlike(likeness, [0], 4)).toEqual(Int32Array.of(0, 1, 2, 4));
    expect(leastAlike(likeness, [0], 6)).toEqual(Int32Array.of(0, 1, 2, 3, 4, 5));
    expect(leastAlike(likeness, [5], 1)).toEqual(Int32Array.of(5));
  });

  it('the earlier of tokens that are as little alike', () => {
    expect(leastAlike([new Float32Array(5)], [2], 3)).toEqual(Int32Array.of(0, 1, 2));
  });
});

describe('DART', () => {
  beforeAll(() => useBackend('cpu'));

  /** Six rows, of which 1 to 4 are visual: key norms and normed states as given. */
  const view = (norms: readonly number[], states: number[][], visual = [1, 2, 3, 4]): DecoderView => ({
    ...Object.defineProperty(
      decoderView(1, visual, () => tf.zeros([1, 1, 1]), norms.length),
      'states',
      { value: undefined, enumerable: true },
    ),
    keys: (block) => {
      expect(block).toBe(0);
      return tf.tensor2d(norms.map((norm) => [norm / 2, -norm / 2]));
    },
    normed: () => tf.tensor2d(states),
  });
  const STATES = [
    [1, 0],
    [1, 0.1],
    [5, 0.2],
    [0, 1],
    [-1, 0],
    [0, -1],
  ];

  it('keeps the visual token with the largest key, and what is least like it, whatever the lengths', async () => {
    const run = createPruner({ method: 'dart', tokens: 2, layer: 1, visualPivots: 1, textPivots: 0 }).begin(request([4]));
    const before = tf.memory().numTensors;
    expect(await run.beforeBlock?.(view([9, 1, 3, 2, 2, 9], STATES))).toEqual({ keep: Int32Array.of(1, 3) });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('takes text pivots from behind the image, and from before it where nothing is behind', async () => {
    const run = createPruner({ method: 'dart', tokens: 2, layer: 1, visualPivots: 1, textPivots: 1 }).begin(request([4]));
    // Pivot 2 is the first to take a token, so one that text took would show up only if shares were unequal: two picks for two pivots.
    const three = createPruner({ method: 'dart', tokens: 3, layer: 1, visualPivots: 1, textPivots: 1 }).begin(request([4]));
    expect(await run.beforeBlock?.(view([9, 1, 3, 2, 2, 9], STATES))).toEqual({ keep: Int32Array.of(1, 3) });
    expect(await three.beforeBlock?.(view([9, 1, 3, 2, 2, 1], STATES))).toEqual({ keep: Int32Array.of(1, 2, 3) }); // row 5 took token 2
    expect(await three.beforeBlock?.(view([1, 9, 1, 3, 2, 2], STATES, [2, 3, 4, 5]))).toEqual({ keep: Int32Array.of(1, 2, 3) });
  });

  it('keeps all, and looks at nothing, where there is room for all', async () => {
    const run = createPruner({ method: 'dart', tokens: 4, layer: 1 }).begin(request([4]));
    const never = decoderView(1, [1, 2, 3, 4], () => tf.zeros([1, 1, 1]), 6); // refuses keys and states
    expect(await run.beforeBlock?.(never)).toBeUndefined();
  });

  it('refuses keys or states that are no numbers', async () => {
    const run = createPruner({ method: 'dart', tokens: 2, layer: 1 }).begin(request([4]));
    const before = tf.memory().numTensors;
    await expect(run.beforeBlock?.(view([9, Number.NaN, 3, 2, 2, 9], STATES))).rejects.toMatchObject({ code: 'ATTENTION_NOT_FINITE' });
    const broken = STATES.map((row, i) => (i === 3 ? [Number.NaN, 1] : row));
    await expect(run.beforeBlock?.(view([9, 1, 3, 2, 2, 9], broken))).rejects.toMatchObject({ code: 'ATTENTION_NOT_FINITE' });
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each([
    [{}, 'BUDGET_MISSING'],
    [{ tokens: 4, keepRatio: 0.5 }, 'BUDGET_AMBIGUOUS'],
    [{ tokens: 0 }, 'TOKENS_INVALID'],
    [{ tokens: 4, layer: 0 }, 'LAYER_INVALID'],
    [{ tokens: 4, visualPivots: 0 }, 'TOKENS_INVALID'],
    [{ tokens: 4, textPivots: 1.5 }, 'TOKENS_INVALID'],
    [{ tokens: 4, pivots: 1 }, 'METHOD_OPTION_UNKNOWN'],
  ])('refuses %p', (options, code) => {
    expect(() => createPruner({ method: 'dart', ...options } as PruneOptions)).toThrow(expect.objectContaining({ name: 'PruneError', code }));
  });

  it('refuses more tokens than a crop has, and a layer behind the last block', () => {
    expect(() => createPruner({ method: 'dart', tokens: 5 }).begin(request([4]))).toThrow(expect.objectContaining({ code: 'TOKENS_EXCEED_PATCHES' }));
    expect(() => createPruner({ method: 'dart', tokens: 4, layer: 4 }).begin(request([4], clip, 4))).toThrow('Give layers up to 3');
  });

  it("has the published 160 tokens on average for N' = 132 at layer 2 of 32", () => {
    const entering = createPruner({ method: 'dart', tokens: 132 }).enteringTokens(576, 32) as number[];
    expect(entering.reduce((sum, count) => sum + count, 0) / 32).toBeCloseTo(159.75, 5);
    expect(dartMethod.forAverage?.(159.75, { patches: 576, decoderBlocks: 32 })).toEqual({ method: 'dart', layer: 2, tokens: 132 });
    expect(dartMethod.forAverage?.(64, { patches: 256, decoderBlocks: 4 })).toBeUndefined();
    expect(dartMethod.forAverage?.(256, { patches: 256, decoderBlocks: 4 })).toEqual({ method: 'dart', layer: 2, tokens: 256 });
  });
});
