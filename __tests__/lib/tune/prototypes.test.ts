import { existsSync } from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel } from '../../../lib/load';
import type { VisionLanguageModel } from '../../../lib/model';
import type { PrototypesOptions } from '../../../lib/prune/prototypes';
import type { Pruner, Selection, VisionView } from '../../../lib/prune/types';
import { densityPeaks } from '../../../lib/tune/density_peaks';
import { blockAround, divergence, likeliest } from '../../../lib/tune/prototypes';
import { sceneSamples } from '../../../lib/tune/samples';
import { tune } from '../../../lib/tune/tune';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { readJson } from '../../support/recorded';

const SHIPPED = 'weights/vispruner-tiny';
const withModel = existsSync(path.join(SHIPPED, 'model.safetensors')) ? describe : describe.skip;
const { cases } = readJson<{ cases: readonly { readonly points: number[][]; readonly clusters: number; readonly labels: number[] }[] }>(
  'methods',
  'density-peaks.json',
);

describe.each(BACKENDS)('density peaks on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(cases.map((one) => [one.points.length, one.clusters, one] as const))('put %i points into %i clusters', async (_points, _clusters, one) => {
    const points = tf.tensor2d(one.points);
    expect(Array.from(await withoutLeaks(() => densityPeaks(points, one.clusters, () => Promise.resolve())))).toEqual(one.labels);
    points.dispose();
  });

  it('give duplicates one cluster, which noise decides in the reference', async () => {
    const points = tf.tensor2d([[0, 0], [0, 0], [0, 0], [9, 9], [9, 9], [9, 9]]); // biome-ignore format: points
    const labels = Array.from(await densityPeaks(points, 2, () => Promise.resolve()));
    expect(new Set(labels.slice(0, 3)).size + new Set(labels.slice(3)).size).toBe(2);
    expect(labels[0]).not.toBe(labels[3]);
    points.dispose();
  });
});

describe('what a probe measures', () => {
  it('takes the 3 x 3 patches around a token, moved inward at the border', () => {
    const grid = { rows: 4, columns: 5 };
    expect(Array.from(blockAround(7, grid))).toEqual([1, 2, 3, 6, 7, 8, 11, 12, 13]);
    expect(Array.from(blockAround(0, grid))).toEqual([0, 1, 2, 5, 6, 7, 10, 11, 12]);
    expect(Array.from(blockAround(19, grid))).toEqual([7, 8, 9, 12, 13, 14, 17, 18, 19]);
    expect(Array.from(blockAround(1, { rows: 1, columns: 2 }))).toEqual([0, 1]);
  });

  it('takes the probability of the likeliest of the 50 best alone', () => {
    expect(likeliest(Float32Array.from({ length: 200 }, () => Math.log(1 / 200)))).toBeCloseTo(1 / 50, 6);
    expect(likeliest(Float32Array.of(Math.log(0.7), Math.log(0.3)))).toBeCloseTo(0.7, 6);
  });

  it('compares distributions over the 10 likeliest of the first, as a mean: worked out by hand', () => {
    // p = (1/2, 1/2), q = (1/4, 3/4), M = (3/8, 5/8); 12 more tokens are far below and do not count, 8 of them at half of 1e-9 do next to nothing
    const p = Float32Array.from([0.5, 0.5, ...new Array(12).fill(1e-12)], Math.log);
    const q = Float32Array.from([0.25, 0.75, ...new Array(12).fill(1e-12)], Math.log);
    const expected = 0.5 * ((3 / 8) * Math.log(3 / 4) + (5 / 8) * Math.log(5 / 4) + (3 / 8) * Math.log(3 / 2) + (5 / 8) * Math.log(5 / 6));
    expect(divergence(p, q)).toBeCloseTo(expected / 10, 6);
    expect(divergence(p, p)).toBeCloseTo(0, 9);
    expect(
      divergence(
        p,
        Float32Array.from(q, (value, i) => (i === 1 ? Number.NEGATIVE_INFINITY : value)),
      ),
    ).toBeLessThan(Number.POSITIVE_INFINITY);
  });
});

withModel('the search for prototypes on the shipped model', () => {
  let model: VisionLanguageModel;
  let before: number;
  const samples = sceneSamples(2);
  const open = { probe: 4, p1: 1, divergence: 1e9, largest: 4, coverage: 0 };

  beforeAll(async () => {
    await useBackend('wasm');
    model = await loadModel(SHIPPED, { backend: 'wasm' });
    before = tf.memory().numTensors;
  });
  afterEach(() => expect(tf.memory().numTensors).toBe(before));
  afterAll(() => model.dispose());

  /** What a pruner of one's own sees of a sample's image. */
  async function seen<T>(
    sample: number,
    look: (view: VisionView) => Promise<T>,
    chosen?: (view: VisionView) => Promise<Selection>,
  ): Promise<{ value: T; best: number }> {
    let value: T | undefined;
    const pruner: Pruner = {
      name: 'looking',
      textDependent: true,
      positions: 'compact',
      needs: () => ({ attention: [], classToken: true }),
      enteringTokens: () => undefined,
      begin: () => ({
        async select(view) {
          value = await look(view);
          return chosen ? chosen(view) : { kept: Int32Array.from({ length: view.features.shape[0] }, (_, i) => i) };
        },
        dispose() {},
      }),
    };
    const { question, image } = samples[sample] as (typeof samples)[number];
    const { logprobs } = await model.ask(await image(), question, { prune: pruner, maxNewTokens: 1, logprobs: 0 });
    return { value: value as T, best: Math.exp(logprobs?.[0]?.logprob ?? Number.NaN) };
  }

  it('takes projected tokens, evenly over the ranks of their similarity to the class token', async () => {
    const seenDone: number[] = [];
    const progress = (done: number, _total: number, stage: string) => {
      if (stage === 'search') seenDone.push(done);
    };
    const found = (await tune(model, 'prototypes', { samples, average: 20, options: open, progress })) as PrototypesOptions;
    expect(seenDone).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(found).toMatchObject({ method: 'prototypes', tokens: 20 });
    expect(found.prototypes).toHaveLength(8);
    for (const sample of [0, 1]) {
      const { value: expected } = await seen(sample, async (view) => {
        const [features, token, projected] = await Promise.all([view.features.array(), view.classToken().array(), (await view.projected()).array()]);
        const norm = (row: readonly number[]) => Math.hypot(...row);
        const [own] = token as [number[]];
        const cosines = features.map((row) => row.reduce((sum, one, i) => sum + one * (own[i] as number), 0) / norm(row) / norm(own));
        const order = [...cosines.keys()].sort((a, b) => (cosines[b] as number) - (cosines[a] as number));
        return [32, 96, 160, 224].map((rank) => projected[order[rank] as number] as number[]); // of 256
      });
      for (const [i, row] of expected.entries()) {
        const prototype = found.prototypes?.[4 * sample + i] as number[];
        for (const [j, value] of row.entries()) expect(Math.abs((prototype[j] as number) - value)).toBeLessThan(1e-4 * (1 + Math.abs(value)));
      }
    }
  });

  it('says how near its conditions are where nothing meets them, and which to change', async () => {
    const search = (options: object) => tune(model, 'prototypes', { samples, average: 20, options: { ...open, ...options } });
    await expect(search({ p1: 0 })).rejects.toMatchObject({ code: 'SEARCH_EMPTY', message: expect.stringMatching(/None of 8.*least 0\.\d+.*p1/) });
    await expect(search({ clusters: 1, largest: 3 })).rejects.toMatchObject({ code: 'SEARCH_EMPTY', message: expect.stringContaining('8 of 8') });
    await expect(search({ coverage: 1 })).rejects.toMatchObject({ code: 'SEARCH_EMPTY', message: expect.stringContaining('share') });
    await expect(search({ pad: -1 })).rejects.toMatchObject({ code: 'SEARCH_OPTION', message: expect.stringContaining('"pad" is -1') });
    await expect(tune(model, 'prototypes', { samples })).rejects.toMatchObject({ code: 'BUDGET_MISSING' });
  });

  it('the least p1 that it tells is the probability of the next token when its token is all there is', async () => {
    const message = await tune(model, 'prototypes', { samples: samples.slice(0, 1), average: 20, options: { ...open, probe: 1, p1: 0 } }).then(
      () => '',
      (error: Error) => error.message,
    );
    const least = Number(/least ([\d.]+)/.exec(message)?.[1]);
    const { value: middle } = await seen(0, async (view) => {
      const [features, token] = await Promise.all([view.features.array(), view.classToken().array()]);
      const [own] = token as [number[]];
      const cosines = features.map((row) => row.reduce((sum, one, i) => sum + one * (own[i] as number), 0) / Math.hypot(...row));
      return [...cosines.keys()].sort((a, b) => (cosines[b] as number) - (cosines[a] as number))[128] as number;
    });
    const { best } = await seen(
      0,
      () => Promise.resolve(),
      () => Promise.resolve({ kept: Int32Array.of(middle) }),
    );
    // the model's vocabulary has more than 50 words; those beyond hold little
    expect(least).toBeGreaterThanOrEqual(best * 0.99);
    expect(least).toBeLessThan(best * 1.1);
  });
});
