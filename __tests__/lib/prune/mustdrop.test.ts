import * as tf from '@tensorflow/tfjs';
import type { EncoderView } from '../../../lib/prune/merging';
import { mustDrop, mustDropMethod } from '../../../lib/prune/mustdrop';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import type { CacheView, PruningRun } from '../../../lib/prune/types';
import { wholeWindows, windowGroups, windowMerging } from '../../../lib/prune/window_merge';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';
import { describeRecorded } from './decoder_oracle';
import { clip, decoderView, request, visionView } from './views';

describeRecorded('mustdrop');

interface RecordedWindows {
  readonly grid: readonly [number, number];
  readonly size: number;
  readonly similarity: number;
  readonly width: number;
  readonly states: readonly number[];
  readonly merged: readonly (readonly number[])[];
  readonly group: readonly number[];
}

const KEYS = { block: 3, rows: 'class' } as const; // of the views' encoder, the last block

describe.each(BACKENDS)('merging windows of similar patches, on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(readJson<RecordedWindows[]>('methods', 'windows.json').map((one) => [one.grid, one] as const))(
    'merges those whose mean cosine numpy finds to be high enough, in a grid of %p with edges that no window covers',
    async (grid, recorded) => {
      const states = tf.tensor2d([...recorded.states], [1 + grid[0] * grid[1], recorded.width]);
      const view = (block: number): EncoderView => ({
        block,
        blocks: 4,
        grid: { rows: grid[0], columns: grid[1] },
        states,
        keys: states,
        members: Array.from({ length: grid[0] * grid[1] }, (_, patch) => Int32Array.of(patch)),
      });
      await withoutLeaks(async () => {
        const groups = await windowMerging(recorded.size, recorded.similarity).afterBlock?.(view(0));
        expect([...(groups?.group ?? [])]).toEqual(recorded.group);
        expect(groups?.rows).toBe(Math.max(...recorded.group) + 1);
        expect(await windowMerging(recorded.size, recorded.similarity).afterBlock?.(view(1))).toBeUndefined();
        expect(await windowMerging(recorded.size, 1).afterBlock?.(view(0))).toBeUndefined();
      });
      states.dispose();
    },
  );
});

it('windows lie side by side, and a merged one takes the row of its first patch', () => {
  const windows = wholeWindows({ rows: 3, columns: 5 }, 2);
  expect(windows.map((window) => [...window])).toEqual([
    [0, 1, 5, 6],
    [2, 3, 7, 8],
  ]);
  const { group, rows } = windowGroups(15, windows, (window) => window === 1);
  expect([...group]).toEqual([0, 1, 2, 2, 3, 4, 5, 2, 2, 6, 7, 8, 9, 10, 11]);
  expect(rows).toBe(12);
  expect(wholeWindows({ rows: 2, columns: 9 }, 3)).toEqual([]);
});

describe('MustDrop', () => {
  const attention = { sums: Float32Array.of(0.1, 0.1, 0.5, 0.1, 0.2), maxima: Float32Array.of(0.1, 0.6, 0.3, 0.2, 0.1) };
  const thresholds = { global: 0.15, individual: 0.5 };

  it('drops what the whole text and each of its tokens care little for: one of them is enough to stay', () => {
    expect([...mustDrop(attention, new Uint8Array(5), thresholds)]).toEqual([1, 2, 4]);
  });

  it('never drops key tokens', () => {
    expect([...mustDrop(attention, Uint8Array.of(1, 0, 0, 0, 0), thresholds)]).toEqual([0, 1, 2, 4]);
  });

  it('at thresholds of 0 drops nothing, at those of 1 what has not all of the attention', () => {
    expect([...mustDrop(attention, new Uint8Array(5), { global: 0, individual: 1 })]).toEqual([0, 1, 2, 3, 4]);
    expect([...mustDrop(attention, new Uint8Array(5), { global: 1, individual: 1 })]).toEqual([]);
  });

  /** A run that saw two crops of 13 and 25 patches, in which patches 12 and 3 (and 9) have the highest class attention: 8% are 2 and 2. */
  async function selected(options: Omit<PruneOptions & { method: 'mustdrop' }, 'method'>): Promise<PruningRun> {
    const run = createPruner({ method: 'mustdrop', merge: false, layers: [1], ...options }).begin(request([13, 25], clip, 4));
    for (const [crop, patches, keys] of [
      [0, 13, [12, 3]],
      [1, 25, [9, 3]],
    ] as const) {
      const features = tf.zeros<tf.Rank.R2>([patches, 4]);
      const scores = tf.tensor2d([Array.from({ length: patches }, (_, patch) => ((keys as readonly number[]).includes(patch) ? 0.2 : 0.01))]);
      const { kept } = (await run.select?.(visionView(features, scores, KEYS, { image: 0, crop })))!;
      expect(kept.length).toBe(patches);
      tf.dispose([features, scores]);
    }
    return run;
  }

  /** Behind block 1: text rows 0, 1 in front, then 38 visual tokens, then text rows; only the third token of each crop gets attention. */
  function viewBehind() {
    const visualRows = Array.from({ length: 38 }, (_, i) => 2 + i);
    const shares = Float32Array.from({ length: 42 }, (_, column) => (column === 4 || column === 17 ? 0.4 : 0.001));
    const rows = (_: number, asked: Int32Array) => {
      expect([...asked]).toEqual([40, 41]);
      return tf.tidy(() => tf.tile(tf.tensor3d(shares, [1, 1, 42]), [1, 2, 1]) as tf.Tensor3D);
    };
    const view = decoderView(1, visualRows, rows, 42);
    const crops = Int32Array.from({ length: 38 }, (_, i) => (i < 13 ? 0 : 1));
    return Object.defineProperty(view, 'origins', { value: { crops, patches: crops.map((crop, i) => (crop === 0 ? i : i - 13)) } });
  }

  it('keeps the key tokens of every crop beside those that the text looks at', async () => {
    await useBackend('cpu');
    await withoutLeaks(async () => {
      const run = await selected({ globalThreshold: 0.1, individualThreshold: 0.1 });
      const reduction = await run.afterBlock?.(viewBehind());
      expect([...(reduction?.keep ?? [])]).toEqual([2, 3, 12, 15, 13 + 3, 13 + 9]);
    });
  });

  it('within a budget, key tokens come first, then those with most attention, the earlier first among equals', async () => {
    await useBackend('cpu');
    const average = (2 * 38 + 2 * 8) / 4; // 8 of 38 behind block 1 of 4, for two crops
    const run = await selected({ averageTokens: average / 2 });
    const reduction = await run.afterBlock?.(viewBehind());
    expect([...(reduction?.keep ?? [])]).toEqual([0, 1, 2, 3, 12, 15, 13 + 3, 13 + 9]);
  });

  it('cuts the caches from its first stage to its last down to the tokens that were left in the end', async () => {
    const held = [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 3], [0, 3], [3], [3]];
    const cut: [number, number[]][] = [];
    const caches: CacheView = {
      blocks: 6,
      visualTokens: (block) => Int32Array.from(held[block] ?? []),
      retain: (block, keep) => cut.push([block, [...keep]]),
    };
    await createPruner({ method: 'mustdrop', layers: [1, 2, 3] })
      .begin(request([4], clip, 6))
      .afterPrefill?.(caches);
    expect(cut).toEqual([
      [1, [3]],
      [2, [2]],
      [3, [1]],
    ]);
  });

  it.each([4, 8, 32])('meets averages to half a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    let met = 0;
    for (const patches of [36, 64, 576]) {
      for (const share of [1, 0.8, 0.5, 0.3, 0.22]) {
        const options = mustDropMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (!options) continue;
        met++;
        const entering = createPruner({ ...options, merge: false }).enteringTokens(patches, blocks) as number[];
        expect(Math.abs(entering.reduce((sum, count) => sum + count, 0) / blocks - patches * share)).toBeLessThanOrEqual(0.5);
      }
    }
    expect(met).toBeGreaterThan(blocks === 4 ? 6 : 9);
    expect(mustDropMethod.forAverage?.(0.02 * 576, { patches: 576, decoderBlocks: blocks })).toBeUndefined();
    expect(createPruner({ method: 'mustdrop' }).enteringTokens(576, blocks)).toBeUndefined();
  });

  it.each([
    [{ globalThreshold: -0.1 }, 'METHOD_OPTION_INVALID', '"globalThreshold" is -0.1'],
    [{ individualThreshold: 2 }, 'METHOD_OPTION_INVALID', '"individualThreshold" is 2'],
    [{ individualThreshold: Number.NaN }, 'METHOD_OPTION_INVALID', 'NaN'],
    [{ averageTokens: 20, globalThreshold: 0.1 }, 'BUDGET_AMBIGUOUS', 'beside a threshold'],
    [{ averageTokens: 0 }, 'TOKENS_INVALID', '"averageTokens" is 0'],
    [{ averageTokens: '9' }, 'TOKENS_INVALID', '"9"'],
    [{ merge: 'no' }, 'METHOD_OPTION_INVALID', '"merge" is "no"'],
    [{ layers: [3, 2] }, 'LAYER_INVALID', '[3, 2]'],
    [{ tokens: 5 }, 'METHOD_OPTION_UNKNOWN', 'averageTokens'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'mustdrop', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses to drop behind the last block, where it would do nothing', () => {
    expect(() => createPruner({ method: 'mustdrop', layers: [3] }).begin(request([4], clip, 4))).toThrow('ends at 3');
    expect(() => createPruner({ method: 'mustdrop' }).begin(request([4], clip, 1))).toThrow('The decoder has 1 blocks');
  });

  it('refuses class attention that is not a number', async () => {
    await useBackend('cpu');
    const run = createPruner({ method: 'mustdrop' }).begin(request([2], clip, 4));
    const [features, scores] = [tf.zeros<tf.Rank.R2>([2, 4]), tf.tensor2d([[0.5, Number.NaN]])];
    await expect(run.select?.(visionView(features, scores, KEYS))).rejects.toMatchObject({ code: 'ATTENTION_NOT_FINITE' });
    tf.dispose([features, scores]);
  });
});
