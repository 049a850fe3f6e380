import fc from 'fast-check';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { toMeCounts, toMeGroups, toMeMethod } from '../../../lib/prune/tome';
import { BACKENDS, useBackend } from '../../support/backends';
import { casesOf, EncoderFixture } from './encoder_fixture';
import { clip, request } from './views';

describe.each(BACKENDS)('ToMe on %s', (backend) => {
  let fixture: EncoderFixture;
  beforeAll(async () => {
    await useBackend(backend);
    fixture = new EncoderFixture();
  });
  afterAll(() => fixture.dispose());

  it.each(casesOf('tome'))('leaves the tokens that its description gives: %s', (_title, one) => fixture.expectRecorded(one));
});

describe('the schedule of ToMe', () => {
  it('is 16 a block for 208 of 576 tokens in 23 blocks, or falls from twice that to none', () => {
    const merged = (schedule: 'constant' | 'decreasing') => {
      const counts = toMeCounts(576, 208, 23, schedule);
      return counts.map((count, block) => (counts[block - 1] ?? 576) - count);
    };
    expect(merged('constant')).toEqual(new Array(23).fill(16));
    const falling = merged('decreasing');
    expect([falling[0], falling[11], falling[22]]).toEqual([32, 16, 0]);
    expect(falling).toEqual([...falling].sort((a, b) => b - a));
    expect(falling.reduce((sum, count) => sum + count, 0)).toBe(576 - 208);
  });

  it('merges earlier what later blocks could not, and never more than half', () => {
    const sizes = fc.record({
      patches: fc.integer({ min: 1, max: 700 }),
      tokens: fc.integer({ min: 1, max: 700 }),
      blocks: fc.integer({ min: 1, max: 24 }),
    });
    fc.assert(
      fc.property(sizes, fc.constantFrom('constant' as const, 'decreasing' as const), ({ patches, tokens, blocks }, schedule) => {
        fc.pre(tokens <= patches && patches <= tokens * 2 ** blocks);
        let before = patches;
        for (const count of toMeCounts(patches, tokens, blocks, schedule)) {
          expect(before - count).toBeGreaterThanOrEqual(0);
          expect(before - count).toBeLessThanOrEqual(before >> 1);
          before = count;
        }
        expect(before).toBe(tokens);
      }),
    );
  });

  it('offers no options for an average that the encoder is too shallow for', () => {
    const offered = (average: number, encoderBlocks?: number) => toMeMethod.forAverage?.(average, { patches: 256, decoderBlocks: 4, encoderBlocks });
    expect(offered(7, 5)).toBeUndefined();
    expect(offered(8, 5)).toEqual({ method: 'tome', tokens: 8 });
    expect(offered(7)).toEqual({ method: 'tome', tokens: 7 });
    expect(toMeCounts(256, 8, 5, 'constant').at(-1)).toBe(8);
  });

  it('refuses what halving can not reach, with the least that can be', () => {
    const pruner = createPruner({ method: 'tome', tokens: 4 });
    expect(() => pruner.begin(request([36]))).toThrow(
      expect.objectContaining({ code: 'BUDGET_UNREACHABLE', message: expect.stringMatching(/3 encoder blocks.*4 of 36.*at least 5/) }),
    );
    createPruner({ method: 'tome', tokens: 5 })
      .begin(request([36]))
      .dispose();
  });
});

describe('the matching of ToMe', () => {
  it('merges the most similar proposals; those that stay come first, then those that were asked', () => {
    // Rows 1, 3, 5 propose to 0, 2, 4, 6.
    const similarity = Float32Array.of(0.1, 0.9, 0.2, 0, 0.3, 0.2, 0.1, 0.4, 0, 0.5, 0.95, 0.1);
    expect(toMeGroups(similarity, 7, 2)).toEqual({ group: Int32Array.of(1, 2, 2, 0, 3, 3, 4), rows: 5 });
  });

  it('lets several join one', () => {
    const similarity = Float32Array.of(0.1, 0.9, 0.2, 0, 0.8, 0.7);
    expect(toMeGroups(similarity, 5, 2)).toEqual({ group: Int32Array.of(0, 1, 1, 1, 2), rows: 3 });
  });

  it('of equal similarities takes the first partner, and the first proposal', () => {
    expect(toMeGroups(new Float32Array(4).fill(1), 4, 1)).toEqual({ group: Int32Array.of(1, 1, 2, 0), rows: 3 });
  });

  it('refuses keys that are not numbers', () => {
    expect(() => toMeGroups(Float32Array.of(1, Number.NaN), 3, 1)).toThrow(expect.objectContaining({ code: 'FEATURES_NOT_FINITE' }));
  });
});

describe('the options of ToMe', () => {
  it.each(['rising', 1, null])('refuse a schedule of %p', (schedule) => {
    expect(() => createPruner({ method: 'tome', tokens: 4, schedule } as unknown as PruneOptions)).toThrow(
      expect.objectContaining({ name: 'PruneError', code: 'METHOD_OPTION_INVALID', message: expect.stringContaining('"constant" or "decreasing"') }),
    );
  });

  it('are all in the key by which encodings are told apart', () => {
    const key = (options: object) => createPruner({ method: 'tome', ...options } as PruneOptions).needs(clip).encoder?.key;
    const keys = [{ tokens: 4 }, { tokens: 5 }, { keepRatio: 0.5 }, { keepRatio: 4 / 5 }, { tokens: 4, schedule: 'decreasing' }].map(key);
    expect(new Set(keys).size).toBe(5);
    expect(key({ tokens: 4, schedule: 'constant' })).toBe(keys[0]);
  });
});
