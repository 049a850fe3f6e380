import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import type { Grid } from '../../../lib/prune/types';
import { centreOf, evenWindows, patchesOf, squareWindows } from '../../../lib/prune/windows';
import { BACKENDS, useBackend } from '../../support/backends';
import { expectClose } from '../../support/compare';
import { clip, request, visionView } from './views';

const GRID: Grid = { rows: 4, columns: 6 };

/** Patch (r, c) has the features [r, c, 1]. */
const features = () => tf.tensor2d(Array.from({ length: 24 }, (_, patch) => [Math.floor(patch / 6), patch % 6, 1]));

async function chosen(options: PruneOptions, grid: Grid = GRID) {
  const rows = features();
  const view = { ...visionView(rows, rows, { block: 0, rows: 'class' }), grid };
  const run = createPruner(options).begin({ ...request([24]), grids: [grid] });
  try {
    return await run.select!(view);
  } finally {
    run.dispose();
    rows.dispose();
  }
}

describe.each(BACKENDS)('spatial pooling on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('takes the mean of each window, those at the edges of what they have', async () => {
    const before = tf.memory().numTensors;
    const { kept, merged } = await chosen({ method: 'pool', window: 4 });
    const wanted = tf.tensor2d([
      [1.5, 1.5, 1],
      [1.5, 4.5, 1],
    ]);
    await expectClose(merged!.tokens, wanted, 'pooled');
    tf.dispose([wanted, merged!.tokens]);
    expect([...kept]).toEqual([7, 10]);
    expect(merged!.members.map((one) => one.length)).toEqual([16, 8]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('makes exactly as many windows as the budget says', async () => {
    const { merged } = await chosen({ method: 'pool', tokens: 6 }); // 2 bands of 3 windows of 2 x 2
    const wanted = tf.tensor2d([0.5, 2.5].flatMap((row) => [0.5, 2.5, 4.5].map((column) => [row, column, 1])));
    await expectClose(merged!.tokens, wanted, 'pooled');
    tf.dispose([wanted, merged!.tokens]);
  });

  it('keeps all patches as they are where there is room', async () => {
    for (const options of [{ tokens: 24 }, { window: 1 }]) {
      const { kept, merged } = await chosen({ method: 'pool', ...options } as PruneOptions);
      expect([[...kept], merged]).toEqual([Array.from({ length: 24 }, (_, patch) => patch), undefined]);
    }
  });
});

describe('a uniform grid', () => {
  beforeAll(() => useBackend('cpu'));

  it('is every so many-th row and column', async () => {
    expect([...(await chosen({ method: 'uniform', stride: 2 })).kept]).toEqual([0, 2, 4, 12, 14, 16]);
    expect([...(await chosen({ method: 'uniform', stride: 3 })).kept]).toEqual([7, 10, 19, 22]);
  });

  it('has exactly as many patches as the budget says, all over the image', async () => {
    for (let tokens = 1; tokens <= 24; tokens++) {
      const { kept } = await chosen({ method: 'uniform', tokens });
      expect(new Set(kept).size).toBe(tokens);
      expect([...kept]).toEqual([...kept].sort((a, b) => a - b));
    }
    expect([...(await chosen({ method: 'uniform', tokens: 4 })).kept]).toEqual([1, 4, 13, 16]);
  });
});

describe('windows', () => {
  const grids = fc.record({ rows: fc.integer({ min: 1, max: 24 }), columns: fc.integer({ min: 1, max: 24 }) });

  it('cover every patch once, as many as were asked for, each around its centre', () => {
    fc.assert(
      fc.property(grids, fc.nat(), (grid, seed) => {
        const count = 1 + (seed % (grid.rows * grid.columns));
        const windows = evenWindows(grid, count);
        expect(windows).toHaveLength(count);
        const patches = windows.map((window) => [...patchesOf(window, grid)]);
        expect(patches.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: grid.rows * grid.columns }, (_, patch) => patch));
        for (const [i, window] of windows.entries()) expect(patches[i]).toContain(centreOf(window, grid));
      }),
    );
  });

  it.each([
    [144, 2],
    [64, 3],
    [36, 4],
    [16, 6],
    [9, 8],
    [1, 24],
  ])('of 24 x 24 patches in %i are squares of %i', (count, side) => {
    const grid = { rows: 24, columns: 24 };
    expect(evenWindows(grid, count)).toEqual(squareWindows(grid, side));
  });
});

describe.each([
  ['pool', 'window'],
  ['uniform', 'stride'],
] as const)('the options of %s', (method, side) => {
  const create = (options: object) => createPruner({ method, ...options } as PruneOptions);

  it(`take ${side} or a budget, not both, not neither`, () => {
    expect(() => create({ tokens: 4, [side]: 2 })).toThrow(expect.objectContaining({ name: 'PruneError', code: 'BUDGET_AMBIGUOUS' }));
    expect(() => create({})).toThrow(expect.objectContaining({ code: 'BUDGET_MISSING' }));
    for (const value of [0, -1, 1.5, '2', Number.NaN])
      expect(() => create({ [side]: value })).toThrow(expect.objectContaining({ code: 'METHOD_OPTION_INVALID' }));
  });

  it(`refuse a ${side} longer than the grid`, async () => {
    await expect(chosen({ method, [side]: 7 } as unknown as PruneOptions)).rejects.toThrow(`"${side}" is 7, but a crop has 4 x 6 patches`);
  });

  it('say how many tokens a side gives where the patches are a square', () => {
    expect(create({ [side]: 3 }).enteringTokens(576, 2)).toEqual([64, 64]);
    expect(create({ [side]: 5 }).enteringTokens(576, 2)).toEqual([25, 25]);
    expect(create({ [side]: 3 }).enteringTokens(24, 2)).toBeUndefined();
    expect(create({ tokens: 7 }).enteringTokens(24, 2)).toEqual([7, 7]);
  });

  it('ask nothing of the encoder', () => {
    expect(create({ tokens: 7 }).needs(clip)).toEqual({ attention: [] });
  });
});
