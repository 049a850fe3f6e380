import { bootstrap, clusteredMean, wilson } from '../../../lib/eval';

describe("Wilson's interval", () => {
  // Newcombe 1998, Statistics in Medicine 17, table I, method 3
  it.each([
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])('of %i in %i is the published one', (right, total, low, high) => {
    const found = wilson({ right, total });
    expect(found.low).toBeCloseTo(low, 4);
    expect(found.high).toBeCloseTo(high, 4);
    expect(found.share).toBe(right / total);
  });

  it('says nothing when nothing was asked', () => {
    expect(wilson({ right: 0, total: 0 })).toMatchObject({ low: 0, high: 1, share: Number.NaN });
  });
});

describe('the interval of a mean over images', () => {
  it('is the normal one where each image has one question', () => {
    const scores = [0, 0.3, 1, 0.6, 1, 0.9, 0, 1];
    const mean = 0.6;
    const deviation = Math.sqrt(scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / 7);
    const { value, low, high } = clusteredMean(scores.map((score) => ({ score, total: 1 })));
    expect(value).toBeCloseTo(mean, 12);
    expect(high - value).toBeCloseTo((1.959964 * deviation) / Math.sqrt(8), 5);
    expect(value - low).toBeCloseTo((1.959964 * deviation) / Math.sqrt(8), 5);
  });

  it('is no narrower for questions that all have the same answer as others about their image', () => {
    const once = [1, 0, 1, 1, 0].map((score) => ({ score, total: 1 }));
    const [six, one] = [clusteredMean(once.map(({ score }) => ({ score: 6 * score, total: 6 }))), clusteredMean(once)];
    expect(six.low).toBeCloseTo(one.low, 12);
    expect(six.high).toBeCloseTo(one.high, 12);
  });

  it('says nothing of one image', () => {
    expect(clusteredMean([{ score: 3, total: 4 }])).toEqual({ value: 0.75, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY });
  });
});

describe('the bootstrap', () => {
  const clusters = Array.from({ length: 400 }, (_, i) => [Number(i % 4 === 0), 1]);
  const share = ([right = 0, total = 0]: readonly number[]): number => right / total;

  it("comes to Wilson's interval of a share, within the noise of 1,000 resamples", () => {
    const [found, expected] = [bootstrap(clusters, share), wilson({ right: 100, total: 400 })];
    expect(found.value).toBe(0.25);
    expect(Math.abs(found.low - expected.low)).toBeLessThan(0.01);
    expect(Math.abs(found.high - expected.high)).toBeLessThan(0.01);
  });

  it('is the same each time', () => {
    expect(bootstrap(clusters, share)).toEqual(bootstrap(clusters, share));
  });
});
