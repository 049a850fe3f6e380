import { BUDGETS, type ConditionOptions, conditionsOf, parseMethods } from '../../../lib/eval';
import { createPruner, METHODS } from '../../../lib/prune/registry';

const options: ConditionOptions = {
  methods: parseMethods('vispruner,vispruner:importantRatio=0.7,fastervlm,dedup,fastv,random'),
  budgets: BUDGETS,
  seeds: [1, 2, 3],
  blind: true,
  patches: 256,
  decoderBlocks: 4,
};
const { asked, unreachable } = conditionsOf(options);

describe('the conditions of a comparison', () => {
  it('have keys of their own, so that no answer is overwritten', () => {
    expect(new Set(asked.map(({ key }) => key)).size).toBe(asked.length);
  });

  it('let as many tokens enter the blocks, on average, as they say', () => {
    for (const { prune, averageTokens } of asked) {
      if (!prune || averageTokens === undefined) continue;
      const entering = createPruner(prune(7)).enteringTokens(256, 4)!;
      expect(entering.reduce((sum, count) => sum + count, 0) / 4).toBe(averageTokens);
    }
  });

  it.each(Object.keys(METHODS).filter((name) => name !== 'none'))(
    'of %s meet the budget to within a token, in a deep decoder and in a flat one',
    (name) => {
      for (const decoderBlocks of [4, 32]) {
        const found = conditionsOf({ ...options, methods: parseMethods(name), decoderBlocks, patches: 576 });
        for (const { row, budget, averageTokens } of found.asked) {
          if (row === name && averageTokens !== undefined) expect(Math.abs(averageTokens - 576 * budget!)).toBeLessThanOrEqual(1);
        }
        for (const { least, nearest, budget } of found.unreachable) {
          expect(least!).toBeLessThanOrEqual(nearest!);
          expect(Math.abs(nearest! - 576 * budget)).toBeGreaterThan(1);
        }
      }
    },
  );

  it('leave a budget out that full first blocks alone exceed, and tell the least that can be had', () => {
    expect(asked.filter(({ row }) => row === 'fastv').map(({ budget }) => budget)).toEqual([0.5]);
    expect(unreachable.map(({ row, budget, least, nearest }) => [row, budget, least, nearest])).toEqual(
      [0.22, 0.11, 0.056].map((budget) => ['fastv', budget, 64.75, 64.75]),
    );
  });

  it('draw another random subset for every image and every seed', () => {
    const drawn = asked.filter(({ row }) => row === 'random').flatMap(({ prune }) => [prune?.(1), prune?.(2)]);
    expect(drawn.length).toBe(24);
    expect(new Set(drawn.map((prune) => JSON.stringify(prune))).size).toBe(drawn.length);
  });

  it('take the column that options found elsewhere come near to, or none', () => {
    const tuned = conditionsOf({
      ...options,
      methods: [],
      tuned: [
        { method: 'fastv', tokens: 85, layer: 1 },
        { method: 'dedup', tokens: 80 },
      ],
    }).asked.slice(2);
    expect(tuned.map(({ key, row, budget, averageTokens }) => ({ key, row, budget, averageTokens }))).toEqual([
      { key: 'fastv, tuned 128', row: 'fastv, tuned', budget: 0.5, averageTokens: 127.75 },
      { key: 'dedup, tuned', row: 'dedup, tuned', budget: undefined, averageTokens: 80 },
    ]);
    const twice = { ...options, tuned: [{ method: 'dedup', tokens: 28 } as const, { method: 'dedup', tokens: 28, step: 4 } as const] };
    expect(() => conditionsOf(twice)).toThrow(expect.objectContaining({ code: 'METHOD_LIST' }));
  });

  it('ask one method twice, with options of its own', () => {
    const prune = asked.find(({ row }) => row === 'vispruner:importantRatio=0.7')?.prune?.(0);
    expect(prune).toMatchObject({ method: 'vispruner', importantRatio: 0.7 });
  });
});

describe('a list of methods', () => {
  it('has options with numbers, texts and lists, whose commas part nothing', () => {
    const [first, second] = parseMethods('fastv:layer=2, vispruner:importantRatio=[1,2]:step=x');
    expect(first).toEqual({ label: 'fastv:layer=2', name: 'fastv', options: { layer: 2 } });
    expect(second?.options).toEqual({ importantRatio: [1, 2], step: 'x' });
  });

  it('has options of a file, but for its budget, and those that are written beside', () => {
    const files: Readonly<Record<string, Record<string, unknown>>> = { 'a.json': { method: 'vispruner', importantRatio: 0.3, step: 4, tokens: 9 } };
    const [found] = parseMethods('vispruner@a.json:step=2', (file) => files[file]!);
    expect(found).toEqual({ label: 'vispruner@a.json:step=2', name: 'vispruner', options: { importantRatio: 0.3, step: 2 } });
    expect(() => parseMethods('dedup@a.json', (file) => files[file]!)).toThrow(expect.objectContaining({ code: 'METHOD_LIST' }));
    expect(() => parseMethods('dedup@a.json')).toThrow(expect.objectContaining({ code: 'METHOD_LIST' }));
  });

  it('stands by "all" for every method that a budget is enough for, once', () => {
    const names = parseMethods('all').map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['vispruner', 'fastv', 'random', 'fitprune', 'vtw']));
    expect(names).not.toContain('none');
    expect(names).not.toContain('prototypes'); // wants a codebook
    for (const decoderBlocks of [4, 16]) expect(() => conditionsOf({ ...options, methods: parseMethods('all'), decoderBlocks })).not.toThrow();
  });

  it.each([
    ['visprunner', 'METHOD_UNKNOWN'],
    ['vispruner:ratio=1', 'METHOD_OPTION_UNKNOWN'],
    ['vispruner:step', 'METHOD_LIST'],
    ['vispruner:tokens=8', 'METHOD_LIST'],
    ['random:seed=8', 'METHOD_LIST'],
    ['dedup,dedup', 'METHOD_LIST'],
  ])('%s is refused', (text, code) => {
    expect(() => parseMethods(text)).toThrow(expect.objectContaining({ code }));
  });

  it('with an option that the method refuses fails before anything is asked', () => {
    expect(() => conditionsOf({ ...options, methods: parseMethods('vispruner:importantRatio=7') })).toThrow(
      expect.objectContaining({ code: 'IMPORTANT_RATIO_INVALID' }),
    );
  });
});
