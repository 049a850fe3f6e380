import * as tf from '@tensorflow/tfjs';
import { type GraphOptions, gPrune, graphScores } from '../../../lib/prune/g_prune';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';

interface Recorded {
  readonly tokens: readonly (readonly number[])[];
  readonly count: number;
  readonly options: GraphOptions;
  readonly scores: readonly number[];
  readonly kept: readonly number[];
}

const { cases } = readJson<{ cases: readonly Recorded[] }>('methods', 'g-prune.json');
const titled = cases.map((one) => [`${one.count} of ${one.tokens.length}, ${JSON.stringify(one.options)}`, one] as const);

describe.each(BACKENDS)('gPrune on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(titled)('keeps what information gathers at: %s', async (_title, one) => {
    const tokens = tf.tensor2d(one.tokens as number[][]);
    expect(Array.from(await withoutLeaks(() => gPrune(tokens, one.count, one.options)))).toEqual(one.kept);
    tokens.dispose();
  });

  it('keeps the lower of two equal tokens', async () => {
    const rows = (cases[0] as Recorded).tokens.slice(0, 9);
    const tokens = tf.tensor2d([...rows, ...rows] as number[][]);
    const kept = Array.from(await gPrune(tokens, 5));
    for (const token of kept) if (token >= 9) expect(kept).toContain(token - 9);
    tokens.dispose();
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %p in a token, and frees what it made', async (bad) => {
    const tokens = tf.tensor2d([...Array.from({ length: 7 }, (_, row) => [1, row]), [1, bad]]);
    await withoutLeaks(() => expect(gPrune(tokens, 4)).rejects.toMatchObject({ code: 'FEATURES_NOT_FINITE' }));
    tokens.dispose();
  });
});

describe('graphScores', () => {
  it.each(titled)("are the released code's steps: %s", (_title, one) => {
    const unit = one.tokens.map((row) => row.map((value) => value / Math.hypot(...row)));
    const similarity = Float32Array.from(unit.flatMap((a) => unit.map((b) => a.reduce((sum, value, i) => sum + value * b[i]!, 0))));
    const scores = graphScores(
      similarity,
      Float32Array.from(one.tokens, (row) => Math.hypot(...row)),
      one.options,
    );
    for (const [i, score] of one.scores.entries()) expect(Math.abs(scores[i]! / score - 1)).toBeLessThan(1e-4);
  });

  it('hands on along the edges alone, worked out by hand', () => {
    // 0 and 1 are joined with equal shares, 2 is alone: lengths 4, 2, 5 become 3, 3, 5, over degrees 2, 2, 1
    const similarity = Float32Array.of(1, 1, 0, 1, 1, 0, 0, 0, 1);
    expect(Array.from(graphScores(similarity, Float32Array.of(4, 2, 5), { rounds: 1 }))).toEqual([1.5, 1.5, 5]);
    expect(Array.from(graphScores(similarity, Float32Array.of(4, 2, 5), { rounds: 0 }))).toEqual([2, 1, 5]);
  });

  it('gives a row of zeros its loop, where the released code has nothing to divide by', () => {
    expect(Array.from(graphScores(Float32Array.of(1, 0, 0, 0), Float32Array.of(3, 0)))).toEqual([3, 0]);
  });
});

describe('the method g-prune', () => {
  it.each([
    [{ threshold: 1.5 }, '"threshold" is 1.5'],
    [{ temperature: 0 }, '"temperature" is 0'],
    [{ rounds: -1 }, '"rounds" is -1'],
    [{ positions: 'gaps' }, '"positions" is "gaps"'],
  ])('refuses %p', (options, message) => {
    const create = () => createPruner({ method: 'g-prune', tokens: 4, ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code: 'METHOD_OPTION_INVALID', message: expect.stringContaining(message) }));
  });

  it('keeps positions unless told otherwise', () => {
    const { positions, selectionPositions } = createPruner({ method: 'g-prune', tokens: 4 });
    expect([positions, selectionPositions]).toEqual(['keep', 'keep']);
    expect(createPruner({ method: 'g-prune', tokens: 4, positions: 'compact' }).selectionPositions).toBe('compact');
  });
});
