import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { dedupPool } from '../../../lib/prune/dedup_pool';
import { selectTokens, visPruner } from '../../../lib/prune/vispruner';
import { BACKENDS, useBackend } from '../../support/backends';
import { edgeCases, goldenCases, goldenTensor } from './golden';

describe.each(BACKENDS)('visPruner on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(goldenCases.map((golden) => [golden.name, golden] as const))('keeps what the released code kept: %s', async (name, golden) => {
    const features = goldenTensor(`${name}.features`);
    const attention = goldenTensor(`${name}.attention`);
    const before = tf.memory().numTensors;
    const kept = await visPruner(features, attention, { tokens: golden.T, importantRatio: golden.r, step: golden.step });
    expect(tf.memory().numTensors).toBe(before);
    expect(Array.from(kept)).toEqual(golden.kept);
    tf.dispose([features, attention]);
  });

  it.each(edgeCases.map((edge) => [edge.name, edge.why, edge] as const))('has one answer for %s: %s', async (_name, _why, edge) => {
    const features = tf.tensor2d(edge.features);
    const attention = tf.tensor2d(edge.attention);
    const kept = await visPruner(features, attention, { tokens: edge.T, importantRatio: edge.r, step: edge.step });
    expect(kept).toHaveLength(edge.expect.count);
    expect(Array.from(kept)).toEqual(edge.kept_with_stable_sorts);
    tf.dispose([features, attention]);
  });

  it('refuses features and attention of different patches, with both shapes', async () => {
    const features = tf.zeros<tf.Rank.R2>([16, 4]);
    const attention = tf.zeros<tf.Rank.R2>([2, 17]); // the class column was left in
    const run = visPruner(features, attention, { tokens: 4 });
    await expect(run).rejects.toMatchObject({ name: 'PruneError', code: 'FEATURE_SHAPE', message: expect.stringMatching(/\[16,4\].*\[2,17\]/) });
    tf.dispose([features, attention]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %p in the attention, and frees what it made', async (bad) => {
    const features = tf.randomNormal<tf.Rank.R2>([16, 4]);
    const attention = tf.tensor2d([[...new Array(15).fill(0.05), bad]]);
    const before = tf.memory().numTensors;
    await expect(visPruner(features, attention, { tokens: 4 })).rejects.toMatchObject({
      code: 'ATTENTION_NOT_FINITE',
      message: expect.stringContaining('visual token 15 of 16'),
    });
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose([features, attention]);
  });

  it.each([Number.NaN, Number.NEGATIVE_INFINITY])('refuses %p in the features, and names the patch', async (bad) => {
    const values = Array.from({ length: 16 }, (_, row) => [1, row, -row, 2]);
    values[5]![2] = bad;
    const features = tf.tensor2d(values);
    const attention = tf.ones<tf.Rank.R2>([2, 16]);
    await expect(visPruner(features, attention, { tokens: 4 })).rejects.toMatchObject({
      code: 'FEATURES_NOT_FINITE',
      message: expect.stringContaining('patch 5 of 16'),
    });
    tf.dispose([features, attention]);
  });

  it('compares by angle alone: the scale of a row, 1e-30 or 1e30, changes nothing', async () => {
    const features = goldenTensor('n256-t28-r50.features');
    const attention = goldenTensor('n256-t28-r50.attention');
    const scales = tf.tensor2d(
      Float32Array.from({ length: 256 }, (_, row) => [1e-30, 1, 1e30][row % 3]!),
      [256, 1],
    );
    const scaled = tf.mul(features, scales) as tf.Tensor2D;
    const kept = await visPruner(scaled, attention, { tokens: 28 });
    expect(Array.from(kept)).toEqual(goldenCases.find((golden) => golden.name === 'n256-t28-r50')!.kept);
    tf.dispose([features, attention, scales, scaled]);
  });
});

describe('the options of visPruner', () => {
  const call = (options: object) => () => selectTokens(new Float32Array(4), new Float32Array(16), options as { tokens: number });
  const thrown = (options: object) => {
    try {
      call(options)();
    } catch (error) {
      return error;
    }
    return undefined;
  };

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '8', undefined])('refuses tokens %p', (tokens) => {
    expect(thrown({ tokens })).toMatchObject({ name: 'PruneError', code: 'TOKENS_INVALID' });
  });

  it.each([-0.1, 1.01, Number.NaN, '0.5'])('refuses an important ratio of %p', (importantRatio) => {
    expect(thrown({ tokens: 2, importantRatio })).toMatchObject({ code: 'IMPORTANT_RATIO_INVALID' });
  });

  it.each([0, -8, 2.5, Number.NaN])('refuses a step of %p', (step) => {
    expect(thrown({ tokens: 2, step })).toMatchObject({ code: 'STEP_INVALID' });
  });

  it('refuses similarities that are not N x N', () => {
    expect(() => selectTokens(new Float32Array(4), new Float32Array(15), { tokens: 2 })).toThrow('4 scores need 16 similarities, but there are 15');
  });
});

/** Scores and the cosine similarities of seeded unit vectors. */
const inputs = fc
  .record({ size: fc.integer({ min: 1, max: 40 }), dim: fc.integer({ min: 1, max: 6 }) })
  .chain(({ size, dim }) =>
    fc.record({
      scores: fc.array(fc.integer({ min: 0, max: 20 }), { minLength: size, maxLength: size }),
      vectors: fc.array(fc.array(fc.integer({ min: -3, max: 3 }), { minLength: dim, maxLength: dim }), { minLength: size, maxLength: size }),
    }),
  )
  .map(({ scores, vectors }) => ({ scores: Float32Array.from(scores), similarity: cosines(vectors) }));

function cosines(vectors: readonly number[][]): Float32Array {
  const unit = vectors.map((vector) => {
    const norm = Math.hypot(...vector) || 1;
    return vector.map((value) => value / norm);
  });
  return Float32Array.from(unit.flatMap((a) => unit.map((b) => a.reduce((sum, value, i) => sum + value * b[i]!, 0))));
}

describe('the laws of selectTokens', () => {
  const options = fc.record({
    tokens: fc.integer({ min: 1, max: 45 }),
    importantRatio: fc.constantFrom(0, 0.25, 0.5, 0.75, 1),
    step: fc.integer({ min: 1, max: 12 }),
  });

  it('keeps exactly min(T, N), ascending, each once, and gives the same answer twice', () => {
    fc.assert(
      fc.property(inputs, options, ({ scores, similarity }, option) => {
        const kept = selectTokens(scores, similarity, option);
        expect(kept).toHaveLength(Math.min(option.tokens, scores.length));
        expect(Array.from(kept)).toEqual([...new Set(kept)].sort((a, b) => a - b));
        expect(selectTokens(scores, similarity, option)).toEqual(kept);
      }),
    );
  });

  it('keeps the floor(T r) of highest attention, whatever the features are', () => {
    fc.assert(
      fc.property(inputs, options, ({ scores, similarity }, option) => {
        const kept = new Set(selectTokens(scores, similarity, option));
        const important = Math.floor(Math.min(option.tokens, scores.length) * option.importantRatio);
        const ranked = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
        for (const index of ranked.slice(0, important)) expect(kept.has(index)).toBe(true);
      }),
    );
  });

  it('keeps everything when T = N', () => {
    fc.assert(
      fc.property(inputs, ({ scores, similarity }) => {
        const kept = selectTokens(scores, similarity, { tokens: scores.length });
        expect(Array.from(kept)).toEqual(Array.from(scores.keys()));
      }),
    );
  });

  it('follows the patches when they change places: what is kept depends on no raster order where attention differs', () => {
    fc.assert(
      fc.property(inputs, options, fc.infiniteStream(fc.nat()), ({ similarity, scores }, option, keys) => {
        const size = scores.length;
        const distinct = Float32Array.from(scores, (_, index) => (index * 7919) % 104729); // similarities may still tie
        const sortKeys = Array.from({ length: size }, () => keys.next().value as number);
        const from = Array.from({ length: size }, (_, index) => index).sort((a, b) => sortKeys[a]! - sortKeys[b]!);
        const movedScores = Float32Array.from(from, (index) => distinct[index]!);
        const movedSimilarity = Float32Array.from(from.flatMap((row) => from.map((column) => similarity[row * size + column]!)));
        const kept = selectTokens(distinct, similarity, option);
        const moved = selectTokens(movedScores, movedSimilarity, option);
        expect(Array.from(moved, (index) => from[index]!).sort((a, b) => a - b)).toEqual(Array.from(kept));
      }),
    );
  });
});

describe('dedupPool', () => {
  it('removes one of a pair of duplicates before any distinct token', () => {
    // Tokens 0 and 1 are the same, 2 and 3 are like nothing else.
    const similarity = cosines([
      [1, 0, 0],
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]);
    expect(Array.from(dedupPool(similarity, 4, Int32Array.of(0, 1, 2, 3), 3, 8)).sort()).toEqual([1, 2, 3]);
  });

  it('thins an odd pool and rounds with too few candidates, where the released code crashes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 61 }), fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 40 }), (size, keep, step) => {
        const pool = Int32Array.from({ length: size }, (_, i) => i);
        const left = dedupPool(new Float32Array(size * size), size, pool, Math.min(keep, size), step);
        expect(new Set(left).size).toBe(Math.min(keep, size));
      }),
    );
  });

  it('leaves the pool that it was given as it was', () => {
    const pool = Int32Array.of(3, 1, 0, 2);
    dedupPool(new Float32Array(16), 4, pool, 1, 8);
    expect(Array.from(pool)).toEqual([3, 1, 0, 2]);
  });
});
