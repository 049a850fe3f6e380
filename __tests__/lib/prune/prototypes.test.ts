import * as tf from '@tensorflow/tfjs';
import { redundancy } from '../../../lib/prune/prototypes';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';
import { request, visionView } from './views';

interface Recorded {
  readonly tokens: readonly (readonly number[])[];
  readonly prototypes: readonly (readonly number[])[];
  readonly scores: readonly number[];
  readonly shares: Readonly<Record<string, readonly number[]>>;
  readonly thresholds: Readonly<Record<string, readonly number[]>>;
}

const { cases } = readJson<{ cases: readonly Recorded[] }>('methods', 'prototypes.json');
const rows = (values: readonly (readonly number[])[]) => tf.tensor2d(values as number[][]);

async function kept(tokens: Recorded['tokens'], options: object): Promise<number[]> {
  const [features, projected, attention] = [tf.zeros<tf.Rank.R2>([tokens.length, 3]), rows(tokens), tf.zeros<tf.Rank.R2>([1, tokens.length])];
  const pruner = createPruner({ method: 'prototypes', ...options } as PruneOptions);
  const run = pruner.begin(request([tokens.length]));
  const selection = await run.select?.(visionView(features, attention, { block: 0, rows: 'class' }, { projected }));
  tf.dispose([features, projected, attention]);
  return Array.from(selection?.kept ?? []);
}

describe.each(BACKENDS)('prototypes on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(cases.map((one) => [one.tokens.length, one] as const))(
    'scores each of %i tokens by the prototype that is most like it',
    async (_size, one) => {
      const tokens = rows(one.tokens);
      let scores = new Float32Array(0);
      await withoutLeaks(async () => {
        scores = Float32Array.from(await redundancy(tokens, one.prototypes));
      });
      for (const [i, score] of one.scores.entries()) expect(Math.abs(scores[i]! - score)).toBeLessThan(1e-5);
      tokens.dispose();
    },
  );

  it.each(cases.flatMap((one) => Object.entries(one.shares).map(([share, wanted]) => [share, one, wanted] as const)))(
    'keeps a share of %s, the least redundant',
    async (share, { tokens, prototypes }, wanted) => {
      expect(await withoutLeaks(() => kept(tokens, { prototypes, keepRatio: Number(share) }))).toEqual(wanted);
    },
  );

  it.each(cases.flatMap((one) => Object.entries(one.thresholds).map(([threshold, wanted]) => [threshold, one, wanted] as const)))(
    'keeps all that stay below %s',
    async (threshold, { tokens, prototypes }, wanted) => {
      expect(await kept(tokens, { prototypes, threshold: Number(threshold) })).toEqual(wanted);
    },
  );

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %p in a token, and names it', async (bad) => {
    const tokens = tf.tensor2d([...Array.from({ length: 7 }, (_, row) => [1, row]), [1, bad]]);
    await withoutLeaks(() =>
      expect(redundancy(tokens, [[1, 1]])).rejects.toMatchObject({ code: 'FEATURES_NOT_FINITE', message: expect.stringContaining('patch 7 of 8') }),
    );
    tokens.dispose();
  });
});

describe('the method prototypes', () => {
  beforeAll(() => useBackend('cpu'));
  const [{ tokens, prototypes }] = cases as [Recorded];

  it('keeps the least redundant token where none is below the threshold', async () => {
    expect(await kept([[1, 0.1], [1, 0.2], [1, 0]], { prototypes: [[1, 0]], threshold: 0.01 })).toEqual([1]); // biome-ignore format: a matrix
  });

  it('keeps the lower of equally redundant tokens', async () => {
    expect(await kept([[1, 0], [0, 1], [0, 1], [0, 1]], { prototypes: [[1, 0]], tokens: 2 })).toEqual([1, 2]); // biome-ignore format: a matrix
  });

  it('needs no codebook to keep all, and says where one comes from otherwise', async () => {
    expect(await kept(tokens, { tokens: tokens.length })).toHaveLength(tokens.length);
    await expect(kept(tokens, { tokens: 3 })).rejects.toMatchObject({
      code: 'METHOD_OPTION_INVALID',
      message: expect.stringContaining('vispruner tune'),
    });
  });

  it('takes rows of any kind of array, and knows a codebook again by its identity', async () => {
    const typed = prototypes.map((row) => Float32Array.from(row));
    expect(await kept(tokens, { prototypes: typed, tokens: 7 })).toEqual(await kept(tokens, { prototypes, tokens: 7 }));
    const key = (codes: unknown, options: object = { tokens: 7 }) =>
      createPruner({ method: 'prototypes', prototypes: codes, ...options } as PruneOptions).key;
    expect(key(typed)).toBe(key(typed));
    expect(new Set([key(typed), key(prototypes), key(prototypes, { tokens: 8 }), key(prototypes, { threshold: 0.5 })]).size).toBe(4);
  });

  it.each([
    [{ prototypes: [], tokens: 3 }, 'METHOD_OPTION_INVALID', 'no list of rows'],
    [{ prototypes: 'codebook.json', tokens: 3 }, 'METHOD_OPTION_INVALID', 'no list of rows'],
    [{ prototypes: [[1, 2], [3]], tokens: 3 }, 'METHOD_OPTION_INVALID', 'no list of rows'],
    [
      {
        prototypes: [
          [1, 2],
          [3, Number.NaN],
        ],
        tokens: 3,
      },
      'METHOD_OPTION_INVALID',
      'NaN in row 1',
    ],
    [{ prototypes: [[1]] }, 'BUDGET_MISSING', 'tokens'],
    [{ prototypes: [[1]], threshold: 0.4, tokens: 3 }, 'BUDGET_AMBIGUOUS', '"threshold"'],
    [{ prototypes: [[1]], threshold: 1.4 }, 'METHOD_OPTION_INVALID', '"threshold" is 1.4'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'prototypes', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code, message: expect.stringContaining(message) }));
  });

  it('refuses a codebook of another model, with both widths', async () => {
    const projected = rows(tokens);
    await withoutLeaks(() =>
      expect(redundancy(projected, [[1, 2, 3]])).rejects.toMatchObject({ message: expect.stringMatching(/3 numbers.*12 wide/) }),
    );
    projected.dispose();
  });
});
