import { outlierCount, PruMergeChooser } from '../../../lib/prune/prumerge_choice';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { BACKENDS, useBackend } from '../../support/backends';
import { casesOf, EncoderFixture } from './encoder_fixture';
import { clip, request } from './views';

describe.each(BACKENDS)('PruMerge and PruMerge+ on %s', (backend) => {
  let fixture: EncoderFixture;
  beforeAll(async () => {
    await useBackend(backend);
    fixture = new EncoderFixture();
  });
  afterAll(() => fixture.dispose());

  it.each(casesOf('prumerge'))('makes the tokens that its description gives: %s', (_title, one) => fixture.expectRecorded(one));
  it.each(casesOf('prumerge-plus'))('makes, with a grid, the tokens that its description gives: %s', (_title, one) => fixture.expectRecorded(one));

  it.each(['prumerge', 'prumerge-plus'] as const)(
    '%s makes one token of all patches for a budget of one, and keeps all where there is room',
    async (method) => {
      for (const [tokens, first] of [
        [1, -1],
        [36, 0],
      ] as const) {
        const made = await fixture.tokensOf({ method, tokens }, 0);
        expect(made.members).toHaveLength(tokens);
        expect(made.members[0]?.[0]).toBe(first);
        made.tokens.dispose();
      }
    },
  );
});

/** Attention of N patches of which the first `outliers` stand out; all similar alike. */
function chooser(size: number, outliers: number): PruMergeChooser {
  const attention = Float32Array.from({ length: size }, (_, patch) => (patch < outliers ? 1 - patch / 1000 : 0.001 + (patch % 7) * 1e-5));
  return new PruMergeChooser(attention, new Float32Array(size * size));
}

describe('the patches that PruMerge keeps', () => {
  it('counts outliers beyond one and a half times the distance of the interpolated quartiles', () => {
    // Quartiles of 0..7 are 1.75 and 5.25; the fence is 10.5.
    expect(outlierCount(Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7))).toBe(0);
    expect(outlierCount(Float32Array.of(0, 1, 2, 3, 4, 5, 6, 10.4))).toBe(0);
    expect(outlierCount(Float32Array.of(0, 1, 2, 3, 4, 5, 6, 10.6))).toBe(1);
    expect(outlierCount(Float32Array.of(5))).toBe(0);
    expect(outlierCount(new Float32Array(9))).toBe(0);
  });

  it.each([
    [16, 12, 48],
    [30, 6, 96],
    [58, 3, 192],
    [96, 2, 288],
  ])('%i outliers of 576 give a grid of stride %i with %i places, the last patch never among them', (outliers, stride, places) => {
    const chosen = chooser(576, outliers).adaptive(true);
    const grid = Array.from({ length: places }, (_, i) => i * stride);
    expect([...chosen.subarray(0, outliers)]).toEqual(Array.from({ length: outliers }, (_, i) => i));
    expect([...chosen.subarray(outliers)]).toEqual(grid.filter((patch) => patch >= outliers));
    expect(grid.at(-1)! + stride).toBeGreaterThanOrEqual(575);
  });

  it.each([97, 143])(
    '%i outliers or more keep every patch but the last, where the released code comes to a stride of 1, and later of 0',
    (outliers) => {
      expect(chooser(576, outliers).adaptive(true)).toHaveLength(575);
    },
  );

  it('has an answer without outliers: one token of all, or the grid of one outlier', () => {
    const flat = new PruMergeChooser(new Float32Array(576), new Float32Array(576 ** 2));
    expect([...flat.adaptive(false)]).toEqual([]);
    expect([...flat.adaptive(true)]).toEqual([0, 192, 384]);
  });

  it.each([
    [64, 11, 53],
    [128, 6, 96],
    [256, 3, 192],
  ])('%i of 576 tokens have the published grid of stride %i, and as many of the highest as make the count', (tokens, stride, places) => {
    const chosen = chooser(576, 80).fixed(tokens, true);
    expect(new Set(chosen).size).toBe(tokens - 1);
    const inGrid = [...chosen].filter((patch) => patch % stride === 0 && patch < 575);
    expect(inGrid).toHaveLength(places);
  });

  it('reaches every count exactly', () => {
    const [small, even] = [chooser(36, 3), new PruMergeChooser(new Float32Array(36), new Float32Array(36 ** 2))];
    for (let tokens = 1; tokens < 36; tokens++) {
      for (const one of [small, even]) {
        for (const plus of [false, true]) expect(new Set(one.fixed(tokens, plus)).size).toBe(tokens - 1);
      }
    }
  });
});

describe('the tokens that PruMerge makes', () => {
  it('add attention times feature of the nearest, kept ones among them, and take the lower of equal ones', async () => {
    // Patch 0 is like 1 most, then like 2 and 3 alike.
    const similarity = Float32Array.of(1, 0.9, 0.5, 0.5, 0.9, 1, 0, 0, 0.5, 0, 1, 0, 0.5, 0, 0, 1);
    const chosen = Int32Array.of(0, 1);
    const one = new PruMergeChooser(Float32Array.of(0.5, 0.25, 0.125, 0.0625), similarity);
    const sums = await one.sums(chosen, 2, () => Promise.resolve());
    expect(sums.map(({ rows, weights }) => [[...rows], [...weights]])).toEqual([
      [
        [0, 1, 2],
        [1, 0.25, 0.125],
      ],
      [
        [1, 0, 2],
        [1, 0.5, 0.125],
      ],
      [
        [2, 3],
        [0.125, 0.0625],
      ],
    ]);
    expect(one.members(chosen, sums).map((rows) => [...rows])).toEqual([
      [0, 1, 2],
      [1, 0, 2],
      [-1, 2, 3],
    ]);
  });

  it('are refused when a key is not a number', () => {
    expect(() => new PruMergeChooser(new Float32Array(2), Float32Array.of(1, 0, 0, Number.NaN))).toThrow(
      expect.objectContaining({ code: 'FEATURES_NOT_FINITE' }),
    );
  });
});

describe.each(['prumerge', 'prumerge-plus'] as const)('the options of %s', (method) => {
  const create = (options: object) => createPruner({ method, ...options } as PruneOptions);

  it('without a budget leave the count to the image', () => {
    expect(create({}).enteringTokens(576, 4)).toBeUndefined();
    expect(create({ tokens: 5 }).enteringTokens(576, 4)).toEqual([5, 5, 5, 5]);
  });

  it.each([0, 1.5, Number.NaN, '32'])('refuse %p neighbours', (neighbours) => {
    expect(() => create({ neighbours })).toThrow(expect.objectContaining({ name: 'PruneError', code: 'METHOD_OPTION_INVALID' }));
  });

  it('refuse more tokens than patches, and an encoder without a class token', () => {
    expect(() => create({ tokens: 65 }).begin(request([64]))).toThrow(expect.objectContaining({ code: 'TOKENS_EXCEED_PATCHES' }));
    expect(() => create({}).needs({ ...clip, hasClassToken: false })).toThrow(expect.objectContaining({ code: 'ATTENTION_UNAVAILABLE' }));
  });

  it('read the last block, which the features do not need', () => {
    expect(create({}).needs(clip)).toEqual({ attention: [], projections: [3] });
  });
});
