import * as tf from '@tensorflow/tfjs';
import type { EncodedRequest } from '../../../lib/llava';
import { Pacer } from '../../../lib/pacer';
import { createPruner } from '../../../lib/prune/registry';
import { searchBox } from '../../../lib/tune/box_search';
import { TuneSet } from '../../../lib/tune/tune_set';
import { settingsFor, tuneVFlowOpt } from '../../../lib/tune/vflowopt';
import { watchedSignal } from '../../support/aborts';
import { useBackend } from '../../support/backends';
import { IMAGE_TOKEN, lawImage, lawModel } from '../prune/law_model';
import { FACTS } from '../prune/law_options';
import { clip, request } from '../prune/views';

const average = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0) / counts.length;

describe('the search over a box', () => {
  const hill = (point: readonly number[]) => Promise.resolve(-point.reduce((sum, x, i) => sum + (x - 0.2 - 0.3 * i) ** 2, 0));
  const options = { dimensions: 3, calls: 200, initial: 27, seed: 1 };

  it('finds the top of a hill, nearer than as many uniform points do', async () => {
    const [near, uniform] = [await searchBox(hill, options), await searchBox(hill, { ...options, initial: 200 })];
    expect(near.value).toBeGreaterThan(-0.002);
    expect(near.value).toBeGreaterThan(uniform.value);
    expect(near.point.every((x) => x >= 0 && x <= 1)).toBe(true);
  });

  it('tries the same points for the same seed and others for another', async () => {
    const [a, b, c] = [await searchBox(hill, options), await searchBox(hill, options), await searchBox(hill, { ...options, seed: 2 })];
    expect(a).toEqual(b);
    expect(a.point).not.toEqual(c.point);
  });

  it('stays in the box where the top lies in its corner, and takes the only point of one call', async () => {
    const corner = await searchBox((point) => Promise.resolve(point[0]! + point[1]!), { dimensions: 2, calls: 300, initial: 5, seed: 3 });
    expect(corner.value).toBeGreaterThan(1.95);
    expect(corner.value).toBeLessThanOrEqual(2);
    expect((await searchBox(hill, { ...options, calls: 1, initial: 1 })).point).toHaveLength(3);
  });
});

describe('settings of VFlowOpt for a budget', () => {
  it.each([2, 3, 8, 28, 32])('meet it to a token wherever in the box, in a decoder of %i blocks', (decoderBlocks) => {
    for (const patches of [36, 576]) {
      for (const share of [0.06, 0.22, 0.5, 0.9, 1]) {
        const settings = settingsFor(share * patches, { patches, decoderBlocks });
        for (let at = 0; at < 81; at++) {
          const point = [0, 1, 2, 3].map((i) => (Math.floor(at / 3 ** i) % 3) / 2);
          const pruner = createPruner(settings(point));
          const side = Math.sqrt(patches);
          expect(() => pruner.begin({ ...request([patches], clip, decoderBlocks), grids: [{ rows: side, columns: side }] })).not.toThrow();
          const entering = pruner.enteringTokens(patches, decoderBlocks) as number[];
          expect(Math.abs(average(entering) - share * patches)).toBeLessThanOrEqual(1);
        }
      }
    }
  });

  it('differ over the box, and are refused for a budget that nothing meets', () => {
    const settings = settingsFor(144, { patches: 576, decoderBlocks: 28 });
    expect(settings([0, 0, 0, 0])).toEqual({ method: 'vflowopt', tokens: 144, stageRatios: [1, 1], threshold: 0, cell: 2.67 });
    expect(settings([0.5, 0.5, 0.5, 1])).toMatchObject({ threshold: 25, cell: 21.33 });
    expect(settings([1, 0, 0, 0]).tokens).toBeGreaterThan(400);
    for (const [tokens, blocks] of [
      [0.2, 28],
      [577, 28],
      [20, 1],
    ] as const) {
      expect(() => settingsFor(tokens, { patches: 576, decoderBlocks: blocks })).toThrow(expect.objectContaining({ code: 'BUDGET_UNREACHABLE' }));
    }
  });
});

describe('the search for VFlowOpt', () => {
  let model: ReturnType<typeof lawModel>;
  beforeAll(async () => {
    await useBackend('wasm');
    model = lawModel(9);
  });
  afterAll(() => model.dispose());

  async function withSet<T>(signal: AbortSignal | undefined, use: (set: TuneSet) => Promise<T>): Promise<T> {
    const prompts: EncodedRequest[] = [];
    for (const seed of [1, 2]) {
      const image = lawImage(seed);
      const images = await model.llava.encode([image], [tuneVFlowOpt.needs!(model.llava.encoder)], { pacer: new Pacer() });
      image.pixelValues.dispose();
      prompts.push({ inputIds: Int32Array.of(1, IMAGE_TOKEN, 7, seed), images });
    }
    const set = new TuneSet(model.llava, prompts, signal);
    try {
      return await use(set);
    } finally {
      set.dispose();
    }
  }

  const likeness = async (set: TuneSet, options: Parameters<typeof createPruner>[0]) => {
    let sum = 0;
    for (const prompt of set.prompts) {
      const state = (of: typeof options) =>
        set.run(prompt, createPruner(of), async ({ state }) => tf.tidy(() => tf.div(state, tf.norm(state)).dataSync()) as Float32Array);
      const [pruned, full] = [await state(options), await state({ method: 'none' })];
      sum += pruned.reduce((total, x, i) => total + x * (full[i] as number), 0);
    }
    return sum;
  };

  it('finds settings of the budget that keep the last state closer than where it began, tells its progress, and leaks nothing', async () => {
    await withSet(undefined, async (set) => {
      const seen: number[] = [];
      const before = tf.memory().numTensors;
      const asked = (calls: number) => ({ average: 12, options: { calls, seed: 4 }, progress: (done: number) => void seen.push(done) });
      const [one, many] = [await tuneVFlowOpt.search(set, asked(1)), await tuneVFlowOpt.search(set, asked(40))];
      expect(tf.memory().numTensors).toBe(before);
      expect(seen.slice(4)).toEqual(Array.from({ length: 82 }, (_, i) => i + 1));
      expect(Math.abs(average(createPruner(many).enteringTokens(FACTS.patches, FACTS.decoderBlocks) as number[]) - 12)).toBeLessThanOrEqual(1);
      expect(await likeness(set, many)).toBeGreaterThan(await likeness(set, one));
      expect(await tuneVFlowOpt.search(set, asked(40))).toEqual(many);
    });
  });

  it('stops at an abort, and refuses bad numbers', async () => {
    const { signal } = watchedSignal(60);
    await withSet(signal, async (set) => {
      const before = tf.memory().numTensors;
      await expect(tuneVFlowOpt.search(set, { average: 12, options: {}, progress: () => {} })).rejects.toThrow('aborted at look 60');
      expect(tf.memory().numTensors).toBe(before);
      const bad: readonly Record<string, number>[] = [{ calls: 0 }, { calls: 5, initial: 6 }, { seed: -1 }, { calls: 1.5 }];
      for (const options of bad) {
        await expect(tuneVFlowOpt.search(set, { average: 12, options, progress: () => {} })).rejects.toMatchObject({ code: 'SEARCH_OPTION' });
      }
    });
  });
});
