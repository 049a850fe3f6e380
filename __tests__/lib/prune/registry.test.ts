import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { createPruner, METHODS, type PruneOptions } from '../../../lib/prune/registry';
import type { Pruner, RequestView } from '../../../lib/prune/types';
import { useBackend } from '../../support/backends';
import { goldenCases, goldenTensor } from './golden';
import { clip, request, visionView } from './views';

const create = (options: unknown): Pruner => createPruner(options as PruneOptions);

/** The PruneError's code and message, or undefined. */
function refusal(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

const budgeted = ['vispruner', 'fastervlm', 'dedup', 'random', 'fastv'] as const;

beforeAll(() => useBackend('cpu'));

describe('createPruner', () => {
  it.each(Object.entries(METHODS))('makes %s from the options that its documentation shows', (name, method) => {
    const pruner = createPruner(method.example as PruneOptions);
    expect(pruner.name).toBe(name);
    pruner.begin(request([576])).dispose();
  });

  it('takes a method of the user as it is', () => {
    const own: Pruner = { ...create({ method: 'none' }), name: 'own' };
    expect(createPruner(own)).toBe(own);
  });

  it('lists the known methods when one is unknown', () => {
    expect(refusal(() => create({ method: 'vispruned', tokens: 4 }))).toMatchObject({
      name: 'PruneError',
      code: 'METHOD_UNKNOWN',
      message: `Pruning method "vispruned" is not known. Use one of these: ${Object.keys(METHODS).join(', ')}.`,
    });
    for (const method of [undefined, 'toString', '__proto__', 3]) {
      expect(refusal(() => create({ method, tokens: 4 }))).toMatchObject({ code: 'METHOD_UNKNOWN' });
    }
  });

  it.each([undefined, null, 'vispruner', 32])('refuses %p, which is neither options nor a pruner', (options) => {
    expect(refusal(() => create(options))).toMatchObject({ code: 'OPTIONS_INVALID' });
  });

  it('refuses an option that the method does not have, and lists those that it has', () => {
    expect(refusal(() => create({ method: 'random', tokens: 4, importantRatio: 0.5 }))).toMatchObject({
      code: 'METHOD_OPTION_UNKNOWN',
      message: 'Method "random" has no option "importantRatio". Use one of these: tokens, keepRatio, seed.',
    });
    expect(refusal(() => create({ method: 'none', tokens: 4 }))).toMatchObject({ code: 'METHOD_OPTION_UNKNOWN' });
    expect(refusal(() => create({ method: 'vispruner', token: 4 }))).toMatchObject({ code: 'METHOD_OPTION_UNKNOWN' });
  });

  it.each([
    [{ method: 'vispruner', tokens: 4, importantRatio: 1.5 }, 'IMPORTANT_RATIO_INVALID'],
    [{ method: 'vispruner', tokens: 4, importantRatio: Number.NaN }, 'IMPORTANT_RATIO_INVALID'],
    [{ method: 'vispruner', tokens: 4, step: 0 }, 'STEP_INVALID'],
    [{ method: 'dedup', tokens: 4, step: 1.5 }, 'STEP_INVALID'],
    [{ method: 'random', tokens: 4, seed: -1 }, 'SEED_INVALID'],
    [{ method: 'random', tokens: 4, seed: 2 ** 32 }, 'SEED_INVALID'],
    [{ method: 'fastv', tokens: 4, layer: 0 }, 'LAYER_INVALID'],
    [{ method: 'fastv', tokens: 4, layer: 1.5 }, 'LAYER_INVALID'],
    [{ method: 'fastv', tokens: 4, averageTokens: 8 }, 'BUDGET_AMBIGUOUS'],
    [{ method: 'fastv', averageTokens: 0 }, 'TOKENS_INVALID'],
    [{ method: 'fastv', averageTokens: '8' }, 'TOKENS_INVALID'],
  ])('refuses %p when it is created', (options, code) => {
    expect(refusal(() => create(options))).toMatchObject({ name: 'PruneError', code });
  });
});

describe.each(budgeted)('the budget of %s', (method) => {
  it.each([0, -4, 2.5, Number.NaN, Number.POSITIVE_INFINITY, '32', null])('refuses tokens %p', (tokens) => {
    expect(refusal(() => create({ method, tokens }))).toMatchObject({ name: 'PruneError', code: 'TOKENS_INVALID' });
  });

  it.each([0, -0.5, 1.1, Number.NaN, '0.5'])('refuses a keep ratio of %p', (keepRatio) => {
    expect(refusal(() => create({ method, keepRatio }))).toMatchObject({ code: 'KEEP_RATIO_INVALID' });
  });

  it('refuses no budget, and two', () => {
    expect(refusal(() => create({ method }))).toMatchObject({ code: 'BUDGET_MISSING' });
    expect(refusal(() => create({ method, tokens: 4, keepRatio: 0.5 }))).toMatchObject({ code: 'BUDGET_AMBIGUOUS' });
  });

  it('refuses more tokens than any crop has patches, with both numbers, before any work', () => {
    const pruner = create({ method, tokens: 65 });
    expect(refusal(() => pruner.begin(request([576, 64])))).toMatchObject({
      code: 'TOKENS_EXCEED_PATCHES',
      message: 'Option "tokens" is 65, but a crop has 64 visual tokens. Give at most 64, or "keepRatio" for crops of any size.',
    });
    expect(refusal(() => pruner.enteringTokens(64, 4))).toMatchObject({ code: 'TOKENS_EXCEED_PATCHES' });
  });

  it('rounds a ratio of the patches, halves up, and keeps at least one', () => {
    const kept = (keepRatio: number, patches: number) => create({ method, keepRatio }).enteringTokens(patches, 4)?.[3];
    expect(kept(0.222, 2048)).toBe(455); // the counts that the paper prints for 22.2, 11.1 and 5.6%
    expect(kept(0.111, 2048)).toBe(227);
    expect(kept(0.5, 9)).toBe(5);
    expect(kept(0.001, 64)).toBe(1);
    expect(kept(1, 64)).toBe(64);
  });
});

describe('entering tokens', () => {
  it('is T in every block where patches are chosen before the decoder, N where nothing is', () => {
    for (const method of ['vispruner', 'fastervlm', 'dedup', 'random']) {
      expect(create({ method, tokens: 32 }).enteringTokens(576, 3)).toEqual([32, 32, 32]);
    }
    expect(create({ method: 'none' }).enteringTokens(576, 3)).toEqual([576, 576, 576]);
  });

  it("is N before FastV's layer and N' from it on", () => {
    expect(create({ method: 'fastv', tokens: 16, layer: 3 }).enteringTokens(64, 5)).toEqual([64, 64, 64, 16, 16]);
  });

  it.each([
    [2, 192, 166],
    [2, 128, 98],
    [2, 64, 30],
    [3, 192, 152],
    [3, 128, 82],
    [3, 64, 11],
  ])('finds what FastV with K = %i keeps for an average of %i over 32 blocks of 576 tokens: %i', (layer, averageTokens, kept) => {
    expect(create({ method: 'fastv', averageTokens, layer }).enteringTokens(576, 32)?.[31]).toBe(kept);
  });

  it('refuses an average that FastV cannot reach: below 36 with K = 2, above N', () => {
    expect(refusal(() => create({ method: 'fastv', averageTokens: 36 }).begin(request([576], clip, 32)))).toMatchObject({
      code: 'BUDGET_UNREACHABLE',
    });
    expect(refusal(() => create({ method: 'fastv', averageTokens: 600 }).begin(request([576], clip, 32)))).toMatchObject({
      code: 'BUDGET_UNREACHABLE',
    });
    expect(refusal(() => create({ method: 'fastv', averageTokens: 37 }).begin(request([576], clip, 32)))).toBeUndefined();
  });

  it('refuses a FastV layer that the decoder does not have, with both numbers', () => {
    expect(refusal(() => create({ method: 'fastv', tokens: 4, layer: 4 }).begin(request([64])))).toMatchObject({
      code: 'LAYER_INVALID',
      message: expect.stringMatching(/"layer" is 4.*4 blocks/),
    });
  });
});

describe('what methods ask of the encoder', () => {
  it.each(['vispruner', 'fastervlm', 'dedup'])('%s: the class row of the feature block', (method) => {
    expect(create({ method, tokens: 4 }).needs(clip)).toEqual({ attention: [{ block: 2, rows: 'class' }] });
  });

  it.each(['vispruner', 'fastervlm', 'dedup'])('%s without a class token: what patches receive in the last block', (method) => {
    expect(create({ method, tokens: 4 }).needs({ ...clip, hasClassToken: false })).toEqual({ attention: [{ block: 3, rows: 'received' }] });
  });

  it('refuses features that come before any attention', () => {
    expect(refusal(() => create({ method: 'vispruner', tokens: 4 }).needs({ ...clip, featureBlock: -1 }))).toMatchObject({
      code: 'ATTENTION_UNAVAILABLE',
    });
  });

  it.each(['random', 'none', 'fastv'])('%s: nothing', (method) => {
    expect(create(method === 'none' ? { method } : { method, tokens: 4 }).needs(clip).attention).toEqual([]);
  });
});

describe('one request', () => {
  /** Runs a pruner on a recorded input, as one crop. */
  async function kept(options: object, name: string, view: RequestView, place?: { image: number; crop: number }): Promise<number[]> {
    const pruner = create(options);
    const features = goldenTensor(`${name}.features`);
    const attention = goldenTensor(`${name}.attention`);
    const run = pruner.begin(view);
    const need = pruner.needs(view.encoder).attention[0] ?? { block: -1, rows: 'class' };
    const selection = await run.select!(visionView(features, attention, need, place));
    run.dispose();
    tf.dispose([features, attention]);
    return Array.from(selection.kept);
  }
  const recorded = (name: string) => goldenCases.find((golden) => golden.name === name)!.kept;

  it('of vispruner keeps what the released code kept', async () => {
    expect(await kept({ method: 'vispruner', tokens: 64, importantRatio: 0.75 }, 'n576-t64-r75', request([576]))).toEqual(recorded('n576-t64-r75'));
    expect(await kept({ method: 'vispruner', keepRatio: 28 / 256 }, 'n256-t28-r50', request([256]))).toEqual(recorded('n256-t28-r50'));
  });

  it('of fastervlm keeps what the released code kept with r = 1, of dedup with r = 0', async () => {
    expect(await kept({ method: 'fastervlm', tokens: 128 }, 'n576-t128-r100', request([576]))).toEqual(recorded('n576-t128-r100'));
    expect(await kept({ method: 'dedup', tokens: 128 }, 'n576-t128-r0', request([576]))).toEqual(recorded('n576-t128-r0'));
  });

  it('of vispruner works the same on received attention, without a class token', async () => {
    const encoder = { ...clip, hasClassToken: false };
    expect(await kept({ method: 'vispruner', tokens: 28 }, 'n256-t28-r50', request([256], encoder))).toEqual(recorded('n256-t28-r50'));
  });

  it('of none has nothing to call', () => {
    const run = create({ method: 'none' }).begin(request([64]));
    expect([run.select, run.beforeBlock, run.afterBlock]).toEqual([undefined, undefined, undefined]);
  });

  it('of random keeps the exact count, ascending, each once; the same for the same seed, another for another seed, image or crop', async () => {
    const draw = (seed: number, tokens: number, place = { image: 0, crop: 0 }) =>
      kept({ method: 'random', tokens, seed }, 'n256-t28-r50', request([256]), place);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.integer({ min: 16, max: 240 }), async (seed, tokens) => {
        const first = await draw(seed, tokens);
        expect(first).toHaveLength(tokens);
        expect(first).toEqual([...new Set(first)].sort((a, b) => a - b));
        expect(first[0]).toBeGreaterThanOrEqual(0);
        expect(first[tokens - 1]).toBeLessThan(256);
        expect(await draw(seed, tokens)).toEqual(first);
        expect(await draw((seed + 1) % 2 ** 32, tokens)).not.toEqual(first);
        expect(await draw(seed, tokens, { image: 1, crop: 0 })).not.toEqual(first);
        expect(await draw(seed, tokens, { image: 0, crop: 1 })).not.toEqual(first);
      }),
      { numRuns: 20 },
    );
  });

  it('of random draws every patch about equally often', async () => {
    const counts = new Array<number>(256).fill(0);
    for (let seed = 0; seed < 400; seed++)
      for (const index of await kept({ method: 'random', tokens: 64, seed }, 'n256-t28-r50', request([256]))) counts[index]!++;
    const spread = counts.map((count) => Math.abs(count - 100));
    expect(Math.max(...spread)).toBeLessThan(45); // binomial: standard deviation 8.7
  });
});
