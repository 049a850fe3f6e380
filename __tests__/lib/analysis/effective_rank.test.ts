import { effectiveRank, keptRanks, loadModel, type RankedMethod, scenePictures } from '../../../lib';
import { decoderHook } from '../../../lib/analysis/decoder_hook';
import { useBackend, withoutLeaks } from '../../support/backends';

describe('effective rank', () => {
  it('of k orthogonal rows of one length is k', () => {
    expect(effectiveRank(Float32Array.of(2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, -2), 4)).toBeCloseTo(3, 10);
  });

  it('of one row, however often and in whatever length, is 1', () => {
    expect(effectiveRank(Float32Array.of(1, 2, 3, 1, 2, 3, -2, -4, -6, 1, 2, 3), 3)).toBeCloseTo(1, 6);
  });

  it('of rows of length 3 and 1 that stand at right angles is e to the entropy of 3/4 and 1/4', () => {
    expect(effectiveRank(Float32Array.of(0, 3, 1, 0), 2)).toBeCloseTo(Math.exp(-0.75 * Math.log(0.75) - 0.25 * Math.log(0.25)), 10);
  });

  it("is that of numpy's singular values, for more rows than columns and for fewer", () => {
    const at = (i: number, j: number) => Math.sin(1 + i * 5 + j * 3 + i * j);
    const tall = Float32Array.from({ length: 35 }, (_, k) => at(Math.floor(k / 5), k % 5));
    const wide = Float32Array.from({ length: 35 }, (_, k) => at(k % 7, Math.floor(k / 7)));
    expect(effectiveRank(tall, 5)).toBeCloseTo(3.918353558955118, 5);
    expect(effectiveRank(wide, 7)).toBeCloseTo(3.918353558955118, 5);
  });

  it('does not change with the scale, and is 0 for nothing but zeros', () => {
    const rows = Float32Array.of(1, 2, 4, 1, -3, 5);
    expect(
      effectiveRank(
        rows.map((value) => value * 1024),
        3,
      ),
    ).toBeCloseTo(effectiveRank(rows, 3), 6);
    expect(effectiveRank(new Float32Array(6), 3)).toBe(0);
  });

  it('refuses NaN, and numbers that are no rows', () => {
    expect(() => effectiveRank(Float32Array.of(1, Number.NaN), 2)).toThrow(expect.objectContaining({ code: 'FEATURES_NOT_FINITE' }));
    expect(() => effectiveRank(Float32Array.of(1, 2, 3), 2)).toThrow(expect.objectContaining({ code: 'FEATURE_SHAPE' }));
    expect(() => effectiveRank(new Float32Array(0), 2)).toThrow(expect.objectContaining({ code: 'FEATURE_SHAPE' }));
  });
});

it('of the shipped model: what is kept is what is ranked; deduplication spans more than chance, keeping all spans what none spans', async () => {
  await useBackend('wasm');
  const model = await loadModel('weights/vispruner-tiny', { backend: 'wasm' });
  const methods: RankedMethod[] = [
    { name: 'all', prune: () => ({ method: 'none' }) },
    { name: 'every one', prune: () => ({ method: 'fastervlm', tokens: 256 }) },
    { name: 'dedup', prune: () => ({ method: 'dedup', tokens: 28 }) },
    { name: 'random', prune: (seed) => ({ method: 'random', tokens: 28, seed }) },
    {
      name: 'in the decoder',
      prune: () =>
        decoderHook(
          'three',
          () =>
            async ({ block }) =>
              block === 0 ? { keep: Int32Array.of(0, 5, 9) } : undefined,
        ),
    },
    { name: 'one', prune: () => ({ method: 'fastervlm', tokens: 1 }) },
  ];
  const [all, every, dedup, random, three, one] = await withoutLeaks(() => keptRanks(model, scenePictures(3), { methods }));
  expect(every).toMatchObject({ tokens: 256, rank: all!.rank });
  expect(dedup!.tokens).toBe(28);
  expect(dedup!.rank).toBeGreaterThan(random!.rank);
  expect(three!.tokens).toBe(3); // dropped before the first block, after the projector
  expect(three!.rank).toBeGreaterThan(1);
  expect(three!.rank).toBeLessThan(3);
  expect(one).toMatchObject({ tokens: 1, rank: expect.closeTo(1, 6), deviation: expect.closeTo(0, 6) });
  expect(random!.deviation).toBeGreaterThan(0); // every picture has a subset of its own
  await expect(keptRanks(model, [], { methods })).rejects.toMatchObject({ code: 'NOTHING_ANALYSED' });
  model.dispose();
});
