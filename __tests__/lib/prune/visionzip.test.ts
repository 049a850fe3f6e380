import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { visionZip } from '../../../lib/prune/visionzip';
import { BACKENDS, useBackend } from '../../support/backends';
import { expectSame } from '../../support/compare';
import { casesOf, EncoderFixture } from './encoder_fixture';
import { clip, request } from './views';

describe.each(BACKENDS)('VisionZip on %s', (backend) => {
  let fixture: EncoderFixture;
  beforeAll(async () => {
    await useBackend(backend);
    fixture = new EncoderFixture();
  });
  afterAll(() => fixture.dispose());

  it.each(casesOf('visionzip'))('makes the tokens that its description gives: %s', (_title, one) => fixture.expectRecorded(one));

  it('keeps all patches as they are, in raster order and without a class token, where there is room', async () => {
    const { members, tokens } = await fixture.tokensOf({ method: 'visionzip', tokens: 36 }, 0);
    expect(members).toEqual(Array.from({ length: 36 }, (_, patch) => [patch]));
    tokens.dispose();
  });

  it('adds no class token where the checkpoint feeds it anyway: what is left is as with classToken: false', async () => {
    const full = new EncoderFixture({ vision_feature_select_strategy: 'full' });
    const one = await full.tokensOf({ method: 'visionzip', tokens: 10 }, 0);
    const other = await fixture.tokensOf({ method: 'visionzip', tokens: 10, classToken: false }, 0);
    expect(one.members).toEqual(other.members);
    expect(one.members.every(([first]) => first !== -1)).toBe(true);
    await expectSame(one.tokens, other.tokens, 'tokens');
    tf.dispose([one.tokens, other.tokens]);
    full.dispose();
  });
});

describe('the budget of VisionZip', () => {
  const contextual = (tokens: number) => {
    const scores = Float32Array.from({ length: 576 }, (_, i) => i);
    const count = Math.round((tokens * 10) / 64);
    return { count, ...visionZip(scores, new Float32Array(576 ** 2), { dominant: tokens - count - 1, contextual: count }) };
  };

  it.each([
    [64, 10],
    [128, 20],
    [192, 30],
  ])('of %i tokens has the %i contextual ones that are published, and the class token inside', (tokens, count) => {
    const made = contextual(tokens);
    expect(made.count).toBe(count);
    expect(made.targets).toHaveLength(count);
    expect(1 + made.dominant.length + made.targets.length).toBe(tokens);
  });

  const refusal = (options: object, patches = 36) => {
    try {
      createPruner({ method: 'visionzip', ...options } as PruneOptions).begin(request([patches]));
    } catch (error) {
      return error;
    }
    return undefined;
  };

  it.each([
    [{ tokens: 8, contextual: 8 }, /"contextual" is 8, but a crop has 8 tokens.*0 to 7/],
    [{ tokens: 8, contextual: -1 }, /"contextual" is -1/],
    [{ tokens: 8, contextual: 1.5 }, /"contextual" is 1.5/],
    [{ tokens: 8, contextual: '2' }, /"contextual" is "2"/],
    [{ tokens: 8, classToken: 'no' }, /"classToken" is "no".*true or false/],
    [{ keepRatio: 0.1, contextual: 4 }, /a crop has 4 tokens/],
  ])('refuses %p', (options, message) => {
    expect(refusal(options)).toMatchObject({ name: 'PruneError', code: 'METHOD_OPTION_INVALID', message: expect.stringMatching(message) });
  });

  it('may be all contextual but one', () => {
    expect(refusal({ tokens: 8, contextual: 7 })).toBeUndefined();
  });

  it('asks the encoder for attention, keys and, unless told otherwise, the class token of the feature block', () => {
    const needs = (options: object, encoder = clip) => createPruner({ method: 'visionzip', tokens: 4, ...options } as PruneOptions).needs(encoder);
    expect(needs({})).toEqual({ attention: [{ block: 2, rows: 'class' }], projections: [2], classToken: true });
    expect(needs({ classToken: false }).classToken).toBe(false);
    expect(needs({}, { ...clip, feedsClassToken: true }).classToken).toBe(false);
  });
});

describe('the choice of VisionZip', () => {
  /** Patches on a line: the nearer, the more similar. */
  const near = (size: number) => Float32Array.from({ length: size * size }, (_, i) => -Math.abs((i % size) - Math.floor(i / size)));

  it('takes as targets every floor(n / contextual)-th of the n others in raster order, the first of them', () => {
    const { dominant, targets, assigned } = visionZip(Float32Array.of(9, 0, 0, 0, 8, 0, 0, 0, 0), near(9), { dominant: 2, contextual: 3 });
    expect([...dominant]).toEqual([0, 4]);
    expect([...targets]).toEqual([1, 3, 6]); // of 1 2 3 5 6 7 8, every second
    expect(assigned.map((one) => [...one])).toEqual([[2], [], [5, 7, 8]]); // 2 is as near to 1 as to 3: the first
  });

  it('of equal attention keeps the lower patch', () => {
    expect([...visionZip(new Float32Array(6), near(6), { dominant: 2, contextual: 1 }).dominant]).toEqual([0, 1]);
  });

  it('puts every patch into exactly one token', () => {
    const counts = fc.record({ size: fc.integer({ min: 1, max: 40 }), dominant: fc.nat(40), contextual: fc.nat(40) });
    fc.assert(
      fc.property(counts, fc.infiniteStream(fc.integer({ min: 0, max: 5 })), ({ size, dominant, contextual }, values) => {
        fc.pre(dominant + contextual <= size && contextual > 0);
        const draw = (count: number) => Float32Array.from({ length: count }, () => values.next().value as number);
        const made = visionZip(draw(size), draw(size * size), { dominant, contextual });
        expect(made.dominant).toHaveLength(dominant);
        expect(made.targets).toHaveLength(contextual);
        const all = [...made.dominant, ...made.targets, ...made.assigned.flatMap((one) => [...one])];
        expect(all.sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, patch) => patch));
      }),
    );
  });

  it.each([
    ['attention', 'ATTENTION_NOT_FINITE', Float32Array.of(0, Number.NaN), new Float32Array(4)],
    ['keys', 'FEATURES_NOT_FINITE', new Float32Array(2), Float32Array.of(1, 0, 0, Number.NaN)],
  ])('refuses %s that are not numbers', (_what, code, scores, similarity) => {
    expect(() => visionZip(scores, similarity, { dominant: 0, contextual: 1 })).toThrow(expect.objectContaining({ code }));
  });
});
