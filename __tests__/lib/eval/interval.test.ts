import { wilson } from '../../../lib/eval';

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
