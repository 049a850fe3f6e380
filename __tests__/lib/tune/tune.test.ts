import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel } from '../../../lib/load';
import type { VisionLanguageModel } from '../../../lib/model';
import type { FitPruneOptions } from '../../../lib/prune/fitprune';
import { METHODS } from '../../../lib/prune/registry';
import { VALIDATION_SEEDS } from '../../../lib/scenes';
import { sceneSamples } from '../../../lib/tune/samples';
import { readSamples } from '../../../lib/tune/samples_node';
import { checkTune, TUNERS, tune } from '../../../lib/tune/tune';
import { divergence } from '../../../lib/tune/vtw';
import { useBackend } from '../../support/backends';

const SHIPPED = 'weights/vispruner-tiny';
const withModel = existsSync(path.join(SHIPPED, 'model.safetensors')) ? describe : describe.skip;

it('there is a search only for methods that are', () => {
  for (const name of Object.keys(TUNERS)) expect(METHODS).toHaveProperty(name);
});

describe('what a search is asked for is checked before anything is loaded', () => {
  it.each([
    ['fastv', { share: 0.5 }, 'SEARCH_UNKNOWN', 'fitprune'],
    ['toString', {}, 'SEARCH_UNKNOWN', 'toString'],
    ['fitprune', {}, 'BUDGET_MISSING', 'needs a budget'],
    ['fitprune', { share: 0.5, average: 9 }, 'BUDGET_AMBIGUOUS', '9 tokens'],
    ['fitprune', { share: 1.5 }, 'SEARCH_OPTION', '1.5'],
    ['fitprune', { average: -1 }, 'SEARCH_OPTION', '-1'],
    ['vtw', { share: 0.5 }, 'METHOD_OPTION_UNKNOWN', 'takes no budget'],
    ['vtw', { options: { etha: 1 } }, 'METHOD_OPTION_UNKNOWN', 'etha'],
  ])('%s with %p', (method, options, code, message) => {
    expect(() => checkTune(method, options)).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(() => checkTune(method, options)).toThrow(message);
  });
});

it('KL of (1/2, 1/4, 1/4) against (1/4, 1/4, 1/2) is a quarter of ln 2, and of anything against itself 0', () => {
  const p = Float32Array.from([0.5, 0.25, 0.25], Math.log);
  const q = Float32Array.from([0.25, 0.25, 0.5], Math.log);
  expect(divergence(p, q)).toBeCloseTo(0.25 * Math.log(2), 6);
  expect(divergence(p, p)).toBe(0);
});

describe('samples', () => {
  it('of scenes are of the validation range, each with a question, and the same every time', async () => {
    expect(VALIDATION_SEEDS.end).toBeLessThanOrEqual(0x80000000);
    const [one, two] = [sceneSamples(3), sceneSamples(3)];
    expect(one.map(({ question }) => question)).toEqual(two.map(({ question }) => question));
    for (const { question } of one) expect(question).toMatch(/\?$/);
    expect(await one[1]?.image()).toEqual(await two[1]?.image());
  });

  it('of a file have paths relative to it; a line that is none is named', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'vispruner-samples-'));
    try {
      const file = path.join(folder, 'samples.jsonl');
      await writeFile(file, '{"image": "a.jpg", "question": "what?", "id": 3}\n\n{"image": "/b.jpg", "question": "who?"}\n');
      const samples = await readSamples(file);
      expect(await Promise.all(samples.map(({ image }) => image()))).toEqual([path.join(folder, 'a.jpg'), '/b.jpg']);
      expect(samples.map(({ question }) => question)).toEqual(['what?', 'who?']);
      expect(await readSamples(file, 1)).toHaveLength(1);
      for (const [text, message] of [
        ['', 'has no sample'],
        ['{"image": "a.jpg", "question": "what?"}\n{"image": "a.jpg"}', 'line 2'],
        ['[', 'line 1 is not JSON'],
        ['null', 'line 1 has no text "image"'],
      ] as const) {
        await writeFile(file, text);
        await expect(readSamples(file)).rejects.toMatchObject({
          name: 'DataError',
          code: 'SAMPLES_DAMAGED',
          message: expect.stringContaining(message),
        });
      }
      await expect(readSamples(path.join(folder, 'none.jsonl'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

withModel('searches on the shipped model', () => {
  let model: VisionLanguageModel;
  let before: number;
  const samples = sceneSamples(4);

  beforeAll(async () => {
    await useBackend('wasm');
    model = await loadModel(SHIPPED, { backend: 'wasm' });
    before = tf.memory().numTensors;
  });
  afterEach(() => expect(tf.memory().numTensors).toBe(before));
  afterAll(() => model.dispose());

  it('VTW: any divergence is fine for the first block, none but no dropping for an eta of 0', async () => {
    expect(await tune(model, 'vtw', { samples, options: { eta: 1000 } })).toEqual({ method: 'vtw', layer: 1 });
    expect(await tune(model, 'vtw', { samples, options: { eta: 1000, first: 3 } })).toEqual({ method: 'vtw', layer: 3 });
    expect(await tune(model, 'vtw', { samples, options: { eta: 0 } })).toEqual({ method: 'vtw', layer: 4 });
  });

  it('VTW: the first block that suffices is the one whose mean divergence, from the logits of forward, is at most eta', async () => {
    for (const layer of [1, 2, 3]) {
      const mean = await meanDivergence(layer);
      const at = async (eta: number) => await tune(model, 'vtw', { samples, options: { eta, first: layer } });
      expect(await at(mean * 1.001)).toEqual({ method: 'vtw', layer });
      expect(await at(mean * 0.999)).not.toEqual({ method: 'vtw', layer });
    }
  });

  it('FitPrune: what it finds has the average that was asked for', async () => {
    const stages: string[] = [];
    const found = await tune(model, 'fitprune', { samples, share: 0.5, progress: (_, __, stage) => stages.push(stage) });
    const { recipe } = found as FitPruneOptions;
    let left = 256;
    const entering = recipe.map((count) => {
      const now = left;
      left -= count;
      return now;
    });
    expect(entering.reduce((sum, count) => sum + count, 0) / 4).toBeCloseTo(128, 0);
    expect(new Set(stages)).toEqual(new Set(['encode', 'search']));
    const { text } = await model.ask({ width: 2, height: 2, data: new Uint8Array(12) }, 'how many objects are there?', { prune: found });
    expect(text.length).toBeGreaterThan(0);
  });

  it('an abort ends a search, and nothing is left behind', async () => {
    const controller = new AbortController();
    const progress = (_: number, __: number, stage: string) => {
      if (stage === 'search') controller.abort(new Error('enough'));
    };
    await expect(tune(model, 'fitprune', { samples, share: 0.5, progress, signal: controller.signal })).rejects.toThrow('enough');
  });

  it('no samples are refused', async () => {
    await expect(tune(model, 'vtw', { samples: [] })).rejects.toMatchObject({ code: 'SEARCH_OPTION' });
  });

  /** From the probabilities that `forward` gives of the token behind the prompt. */
  async function meanDivergence(layer: number): Promise<number> {
    let sum = 0;
    for (const { question, image } of samples) {
      const images = await model.prepareImages([await image()]);
      const inputIds = model.chatProcessor.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: question }] }], 1);
      const probabilities = async (at: number) => {
        const { logits } = await model.forward({ inputIds, images }, { prune: { method: 'vtw', layer: at } });
        const last = tf.tidy(() => tf.softmax(tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1])));
        const values = await last.data();
        tf.dispose([logits, last]);
        return values;
      };
      const [p, q] = [await probabilities(layer), await probabilities(4)];
      for (const [i, value] of p.entries()) sum += value * Math.log(value / (q[i] as number));
      for (const { pixelValues } of images) pixelValues.dispose();
    }
    return sum / samples.length;
  }
});
