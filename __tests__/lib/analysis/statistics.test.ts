import { MeanRow, profileOf, quartileStart, spearmanWithIndex } from '../../../lib/analysis/statistics';

const row = (...values: number[]) => Float32Array.from(values);

describe('the profile of a row', () => {
  it('gives each quarter of the indices its share of the sum', () => {
    const { mass, quartiles } = profileOf(row(1, 2, 3, 4, 5, 6, 7, 8));
    expect(mass).toBe(36);
    expect(quartiles).toEqual([3 / 36, 7 / 36, 11 / 36, 15 / 36]);
  });

  it('cuts a length that four does not divide without losing or doubling a token', () => {
    for (let size = 1; size <= 40; size++) {
      const starts = [0, 1, 2, 3, 4].map((quarter) => quartileStart(size, quarter));
      expect([starts[0], starts[4]]).toEqual([0, size]);
      const lengths = starts.slice(1).map((start, i) => start - (starts[i] as number));
      expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(1);
    }
  });

  it('has no shares where there is nothing', () => {
    expect(profileOf(row(0, 0, 0, 0))).toMatchObject({ mass: 0, quartiles: [Number.NaN, Number.NaN, Number.NaN, Number.NaN], spearman: 0 });
  });
});

describe('the rank correlation with the index', () => {
  it('is 1 for what only rises, however unevenly, -1 for what only falls, 0 for what is flat or alone', () => {
    expect(spearmanWithIndex(row(0, 1e-6, 5, 900))).toBeCloseTo(1, 12);
    expect(spearmanWithIndex(row(900, 5, 1e-6, 0))).toBeCloseTo(-1, 12);
    expect(spearmanWithIndex(row(3, 3, 3))).toBe(0);
    expect(spearmanWithIndex(row(3))).toBe(0);
  });

  it('gives equal values the mean of their ranks, as scipy.stats.spearmanr', () => {
    const values = Float32Array.from({ length: 20 }, (_, i) => Math.floor(3 * Math.sin(i * i)));
    expect(spearmanWithIndex(values)).toBeCloseTo(-0.14820962080728034, 12);
  });
});

it('a mean of many small numbers keeps what float32 sums lose', () => {
  const mean = new MeanRow(1);
  mean.add([1]);
  for (let i = 0; i < 99_999; i++) mean.add([1e-8]); // each is lost when added to 1 in float32
  expect(mean.mean[0]).toBeCloseTo((1 + 99_999e-8) / 100_000, 11);
});
