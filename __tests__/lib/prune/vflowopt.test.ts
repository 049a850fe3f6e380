import * as tf from '@tensorflow/tfjs';
import { cellCount, importanceMap, recycle } from '../../../lib/prune/importance_flow';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import type { VisionView } from '../../../lib/prune/types';
import { type VFlowOptOptions, vFlowOptMethod } from '../../../lib/prune/vflowopt';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { expectClose } from '../../support/compare';
import { readJson } from '../../support/recorded';
import { describeRecorded } from './decoder_oracle';
import { clip, request, visionView } from './views';

interface RecordedSelections {
  readonly queries: readonly number[];
  readonly keys: readonly number[];
  readonly projected: readonly number[];
  readonly cases: readonly {
    readonly options: VFlowOptOptions;
    readonly members: readonly (readonly number[])[];
    readonly tokens: readonly number[];
  }[];
}

const GRID = { rows: 4, columns: 6 };
const PATCHES = 24;
const recorded = readJson<RecordedSelections>('methods', 'vflowopt_select.json');

/** The recorded crop for as long as it is used. */
async function shown<T>(use: (view: VisionView) => Promise<T>): Promise<T> {
  const [queries, keys] = [tf.tensor2d([...recorded.queries], [1 + PATCHES, 16]), tf.tensor2d([...recorded.keys], [1 + PATCHES, 16])];
  const projected = tf.tensor2d([...recorded.projected], [PATCHES, 24]);
  const features = tf.zeros<tf.Rank.R2>([PATCHES, 16]);
  const view = { ...visionView(features, features, { block: 0, rows: 'class' }, { projected }), grid: GRID, projections: () => ({ queries, keys }) };
  try {
    return await use(view);
  } finally {
    tf.dispose([queries, keys, projected, features]);
  }
}

describeRecorded('vflowopt', async (run) => {
  await shown(async (view) => {
    const selection = await run.select?.(view);
    expect(selection?.kept.length).toBe(PATCHES);
    expect(selection?.merged).toBeUndefined();
  });
});

describe.each(BACKENDS)('what VFlowOpt makes of a crop, on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(recorded.cases.map((one) => [JSON.stringify(one.options), one] as const))('is what numpy makes of it: %s', async (_, one) => {
    await withoutLeaks(() =>
      shown(async (view) => {
        const run = createPruner(one.options).begin({ ...request([PATCHES]), grids: [GRID] });
        const { kept, merged } = (await run.select?.(view))!;
        expect(merged?.space).toBe('projected');
        expect(merged?.members.map((rows) => [...rows])).toEqual(one.members);
        expect([...kept]).toEqual(one.members.map(([first]) => first));
        const tokens = { shape: [one.members.length, 24], values: Float32Array.from(one.tokens) };
        await expectClose(merged?.tokens as tf.Tensor, tokens, 'merged tokens', 1e-5);
        merged?.tokens.dispose();
      }),
    );
  });

  it('without recycling keeps the most important patches as they are', async () => {
    await withoutLeaks(() =>
      shown(async (view) => {
        const run = createPruner({ method: 'vflowopt', tokens: 4, threshold: 1.3, recycle: false }).begin({ ...request([PATCHES]), grids: [GRID] });
        const { kept, merged } = (await run.select?.(view))!;
        const most = recorded.cases[1]?.members.map(([first]) => first); // 5 tokens: four of them the most important by themselves
        expect(merged).toBeUndefined();
        expect(kept.filter((patch) => most?.includes(patch)).length).toBeGreaterThanOrEqual(3);
        expect(kept.length).toBe(4);
      }),
    );
  });
});

describe('the importance of patches', () => {
  const attention = Float32Array.of(0.1, 0.5, 0.4, 0, 0.9, 0.1, 0.2, 0.7, 0.1); // received: 0.1, 0.7, 0.2; mean 1/3

  it('is what those say that receive more than the threshold times the mean', () => {
    expect([...importanceMap(attention, 3, 2)]).toEqual([0, 0.9, 0.1].map(Math.fround));
    const all = [0.1, 0.7, 0.2];
    for (const [i, value] of importanceMap(attention, 3, 0).entries()) expect(value).toBeCloseTo(all[i] as number, 6);
  });

  it('is what all say where none passes the threshold', () => {
    expect([...importanceMap(attention, 3, 28.7)]).toEqual([...importanceMap(attention, 3, 0)]);
  });

  it('is refused where attention is not a number', () => {
    expect(() => importanceMap(Float32Array.of(0.5, 0.5, Number.NaN, 0.5), 2, 9)).toThrow(expect.objectContaining({ code: 'ATTENTION_NOT_FINITE' }));
  });
});

describe('recycling', () => {
  const importance = Float32Array.of(9, 1, 2, 8, 3, 3, 7, 0, 6); // a grid of 3 x 3

  it('merges as few of the lowest patches as leave the tokens asked for, each cell by itself', () => {
    const members = (tokens: number, cell: number) => recycle(importance, { rows: 3, columns: 3 }, cell, tokens).map(({ rows }) => [...rows]);
    expect(members(9, 2)).toEqual([[0], [1], [2], [3], [4], [5], [6], [7], [8]]);
    expect(members(8, 3)).toEqual([[0], [1, 7], [2], [3], [4], [5], [6], [8]]);
    expect(members(8, 2)).toEqual([[0], [1], [3], [4], [5, 2], [6], [7], [8]]); // 7 and 1 are alone in their cells by then
    expect(members(4, 2)).toEqual([[0, 3, 4, 1], [5, 2], [6, 7], [8]]);
    expect(members(1, 3)).toEqual([[0, 3, 6, 8, 4, 5, 2, 1, 7]]);
  });

  it('weighs each patch by its importance, and all alike where they have none', () => {
    const [one] = recycle(Float32Array.of(3, 1), { rows: 1, columns: 2 }, 2, 1);
    expect([...(one?.weights ?? [])]).toEqual([0.75, 0.25]);
    const [none] = recycle(Float32Array.of(0, 0), { rows: 1, columns: 2 }, 2, 1);
    expect([...(none?.rows ?? [])]).toEqual([0, 1]);
    expect([...(none?.weights ?? [])]).toEqual([0.5, 0.5]);
  });

  it('counts cells whose sides are not whole', () => {
    expect(cellCount({ rows: 27, columns: 27 }, 11.8)).toBe(9);
    expect(cellCount({ rows: 27, columns: 27 }, 15.6)).toBe(4);
    expect(cellCount({ rows: 4, columns: 6 }, 2.5)).toBe(6);
  });
});

describe('VFlowOpt', () => {
  const average = (options: PruneOptions, patches: number, blocks: number) => {
    const entering = createPruner(options).enteringTokens(patches, blocks) as number[];
    return entering.reduce((sum, count) => sum + count, 0) / blocks;
  };

  it.each([
    [0.5, 0.723, [0.749, 0.487]],
    [0.25, 0.265, [0.983, 0.877]],
    [0.1, 0.117, [1, 0.601]],
  ])('in 28 blocks its published settings for %f of the tokens leave that many on average', (share, keepRatio, stageRatios) => {
    expect(average({ method: 'vflowopt', keepRatio, stageRatios }, 729, 28) / 729).toBeCloseTo(share, 2);
    const found = vFlowOptMethod.forAverage?.(share * 729, { patches: 729, decoderBlocks: 28 });
    expect(found).toMatchObject({ stageRatios });
    expect((found?.tokens as number) / 729).toBeCloseTo(keepRatio, 2);
  });

  it.each([2, 4, 16, 28])('meets averages to half a token in a decoder of %i blocks', (blocks) => {
    for (const patches of [36, 64, 576]) {
      for (const share of [1, 0.9, 0.7, 0.5, 0.22, 0.11, 0.056]) {
        const options = vFlowOptMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks }) as VFlowOptOptions;
        expect(Math.abs(average(options, patches, blocks) - patches * share)).toBeLessThanOrEqual(0.6);
        const side = Math.sqrt(patches);
        expect(() => createPruner(options).begin({ ...request([patches], clip, blocks), grids: [{ rows: side, columns: side }] })).not.toThrow();
      }
    }
  });

  it.each([
    [{ tokens: 5, stageRatios: [0.5] }, 'RATIOS_INVALID', 'Give 2 kept shares'],
    [{ tokens: 5, stageRatios: [0.5, 1.1] }, 'RATIOS_INVALID', '[0.5, 1.1]'],
    [{ tokens: 5, stageRatios: 3 }, 'RATIOS_INVALID', '"stageRatios" is 3'],
    [{ tokens: 5, layers: [0, 2] }, 'LAYER_INVALID', '[0, 2]'],
    [{ tokens: 5, threshold: -1 }, 'METHOD_OPTION_INVALID', '"threshold" is -1'],
    [{ tokens: 5, cell: 0.5 }, 'METHOD_OPTION_INVALID', '"cell" is 0.5'],
    [{ tokens: 5, recycle: 1 }, 'METHOD_OPTION_INVALID', '"recycle" is 1'],
    [{}, 'BUDGET_MISSING', 'tokens'],
    [{ tokens: 5, alpha: 1 }, 'METHOD_OPTION_UNKNOWN', 'alpha'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'vflowopt', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses fewer tokens than the grid has cells, and more than a crop has patches, before any work', () => {
    const begin = (options: PruneOptions) => () => createPruner(options).begin({ ...request([36]), grids: [{ rows: 6, columns: 6 }] });
    expect(begin({ method: 'vflowopt', tokens: 8, cell: 2 })).toThrow('can leave 9 tokens of a grid of 6 x 6, and 8 are to be left');
    expect(begin({ method: 'vflowopt', tokens: 9, cell: 2 })).not.toThrow();
    expect(begin({ method: 'vflowopt', tokens: 37 })).toThrow(expect.objectContaining({ code: 'TOKENS_EXCEED_PATCHES' }));
  });
});
