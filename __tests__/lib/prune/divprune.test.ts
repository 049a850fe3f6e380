import * as tf from '@tensorflow/tfjs';
import { divPrune, selectDiverse } from '../../../lib/prune/divprune';
import { createPruner } from '../../../lib/prune/registry';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';
import { request, visionView } from './views';

interface Recorded {
  readonly tokens: readonly (readonly number[])[];
  readonly count: number;
  readonly kept: readonly number[];
}

const { cases } = readJson<{ cases: readonly Recorded[] }>('methods', 'divprune.json');

describe.each(BACKENDS)('divPrune on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(cases.map((one) => [one.count, one.tokens.length, one] as const))(
    'keeps the %i of %i tokens that are farthest apart',
    async (_count, _size, one) => {
      const tokens = tf.tensor2d(one.tokens as number[][]);
      const kept = await withoutLeaks(() => divPrune(tokens, one.count));
      expect(Array.from(kept)).toEqual(one.kept);
      tokens.dispose();
    },
  );

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %p in a token, names it, and frees what it made', async (bad) => {
    const tokens = tf.tensor2d([...Array.from({ length: 7 }, (_, row) => [1, row]), [1, bad]]);
    await withoutLeaks(() =>
      expect(divPrune(tokens, 4)).rejects.toMatchObject({
        name: 'PruneError',
        code: 'FEATURES_NOT_FINITE',
        message: expect.stringContaining('patch 7 of 8'),
      }),
    );
    tokens.dispose();
  });

  it('compares by angle: the length of a token changes nothing', async () => {
    const one = cases[3] as Recorded;
    const tokens = tf.tensor2d(one.tokens.map((row, i) => row.map((value) => value * ([1e-30, 1, 1e30][i % 3] as number))));
    expect(Array.from(await divPrune(tokens, one.count))).toEqual(one.kept);
    tokens.dispose();
  });
});

describe('selectDiverse', () => {
  const angles = (degrees: readonly number[]): Float32Array =>
    Float32Array.from(degrees.flatMap((a) => degrees.map((b) => Math.cos(((a - b) * Math.PI) / 180))));

  it('takes the loneliest first and then the farthest, worked out by hand', () => {
    // Nearest others: 10, 10, 30, 30, 60 and 60 degrees away.
    const similarity = angles([0, 10, 50, 80, 140, 200]);
    expect(Array.from(selectDiverse(similarity, 6, 1))).toEqual([4]); // 140 and 200 tie: the lower index
    expect(Array.from(selectDiverse(similarity, 6, 2))).toEqual([0, 4]); // 140 away from it; the others 130, 90, 60 and 60
    expect(Array.from(selectDiverse(similarity, 6, 3))).toEqual([0, 3, 4]); // 80 and 200, both 60 from 140, tie: the lower index
  });

  it('chooses no token twice where all that are left are duplicates, the lower index first', () => {
    const similarity = angles([0, 0, 0, 90, 90]);
    expect(Array.from(selectDiverse(similarity, 5, 4))).toEqual([0, 1, 2, 3]);
    expect(Array.from(selectDiverse(similarity, 5, 2))).toEqual([0, 3]);
  });

  it('keeps all there are', () => {
    expect(Array.from(selectDiverse(angles([0, 40, 95]), 3, 9))).toEqual([0, 1, 2]);
    expect(Array.from(selectDiverse(Float32Array.of(1), 1, 1))).toEqual([0]);
  });

  it('finds the same whichever half of the matrix was rounded up', () => {
    const similarity = angles([0, 30, 100, 130, 260]);
    const tilted = similarity.map((value, at) => (at % 5 > at / 5 ? value : value + 1e-6));
    expect(Array.from(selectDiverse(tilted, 5, 4))).toEqual(Array.from(selectDiverse(similarity, 5, 4)));
  });

  it('refuses similarities of another number of tokens, and a count that is none', () => {
    expect(() => selectDiverse(new Float32Array(8), 3, 2)).toThrow(expect.objectContaining({ code: 'FEATURE_SHAPE' }));
    expect(() => selectDiverse(new Float32Array(9), 3, 0)).toThrow(expect.objectContaining({ code: 'TOKENS_INVALID' }));
  });
});

describe('the method divprune', () => {
  beforeAll(() => useBackend('cpu'));

  it('reads projected tokens, not features', async () => {
    const one = cases[2] as Recorded;
    const [features, projected] = [tf.zeros<tf.Rank.R2>([one.tokens.length, 3]), tf.tensor2d(one.tokens as number[][])];
    const pruner = createPruner({ method: 'divprune', tokens: one.count });
    const view = visionView(features, tf.zeros([1, one.tokens.length]), { block: 0, rows: 'class' }, { projected });
    const selection = await pruner.begin(request([one.tokens.length])).select?.(view);
    expect(Array.from(selection?.kept ?? [])).toEqual(one.kept);
    tf.dispose([features, projected]);
  });
});
