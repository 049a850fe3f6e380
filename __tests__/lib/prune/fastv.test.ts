import * as tf from '@tensorflow/tfjs';
import { createPruner } from '../../../lib/prune/registry';
import { useBackend } from '../../support/backends';
import { clip, decoderView, request } from './views';

beforeAll(() => useBackend('cpu'));

/** Two heads over 8 positions, of which 1, 2, 3 and 5 are visual: on average tokens 0, 1 and 3 have 0.2, token 2 has 0.3. */
const attention = [[[0.9, 0.1, 0.3, 0.2, 0.9, 0.2, 0.9, 0.9]], [[0.9, 0.3, 0.1, 0.4, 0.9, 0.2, 0.9, 0.9]]];

describe('FastV', () => {
  it('asks for the last row of the block before, and keeps the visual tokens with the highest mean, the earlier of equal ones', async () => {
    const asked: unknown[] = [];
    const run = createPruner({ method: 'fastv', tokens: 2 }).begin(request([4]));
    const before = tf.memory().numTensors;
    const view = decoderView(
      2,
      [1, 2, 3, 5],
      (block, rows, options) => {
        asked.push([block, Array.from(rows), options]);
        return tf.tensor3d(attention);
      },
      8,
    );
    expect(await run.beforeBlock!(view)).toEqual({ keep: Int32Array.of(0, 2) });
    expect(asked).toEqual([[1, [7], undefined]]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('declares that it needs the input of the block before', () => {
    const pruner = createPruner({ method: 'fastv', tokens: 2 });
    expect(pruner.needs(clip)).toEqual({ attention: [], blockInput: true });
    expect([pruner.positions, pruner.textDependent]).toEqual(['keep', true]);
  });

  it('does nothing, and computes nothing, before other blocks, with nothing to drop, or without an image', async () => {
    const never = (): tf.Tensor3D => {
      throw new Error('asked for attention');
    };
    const run = createPruner({ method: 'fastv', tokens: 2, layer: 1 }).begin(request([4]));
    for (const block of [0, 2, 3]) expect(await run.beforeBlock!(decoderView(block, [1, 2, 3, 5], never, 8))).toBeUndefined();
    const all = createPruner({ method: 'fastv', tokens: 4, layer: 1 }).begin(request([4]));
    expect(await all.beforeBlock!(decoderView(1, [1, 2, 3, 5], never, 8))).toBeUndefined();
    const blind = createPruner({ method: 'fastv', tokens: 4, layer: 1 }).begin(request([]));
    expect(await blind.beforeBlock!(decoderView(1, [], never, 8))).toBeUndefined();
  });

  it('ranks the tokens of several crops together, for the sum of their budgets', async () => {
    const run = createPruner({ method: 'fastv', tokens: 1 }).begin(request([2, 2]));
    const view = decoderView(2, [1, 2, 3, 5], () => tf.tensor3d([[[0, 0.1, 0.2, 0.5, 0, 0.6, 0, 0]]]), 8);
    expect(await run.beforeBlock!(view)).toEqual({ keep: Int32Array.of(2, 3) });
  });

  it('refuses attention that is not a number', async () => {
    const run = createPruner({ method: 'fastv', tokens: 2 }).begin(request([4]));
    const view = decoderView(2, [1, 2, 3, 5], () => tf.tensor3d([[[0, 0.1, Number.NaN, 0.5, 0, 0.6, 0, 0]]]), 8);
    const before = tf.memory().numTensors;
    await expect(run.beforeBlock!(view)).rejects.toMatchObject({ name: 'PruneError', code: 'ATTENTION_NOT_FINITE' });
    expect(tf.memory().numTensors).toBe(before);
  });
});
