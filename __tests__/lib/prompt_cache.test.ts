import * as tf from '@tensorflow/tfjs';
import { PromptCache, type PruneOptions, type TokenModel } from '../../lib';
import { EncodedImages } from '../../lib/token_request';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { disposeImages, fixtureConfig, fixtureImages, fixtureModel } from '../support/fixture_model';

const FIXTURE = 'gqa';
const config = fixtureConfig(FIXTURE);
const IMAGE = config.model_type === 'llava' ? config.image_token_index : -1;

/** Logits of the last row, [1, vocabulary]. */
async function lastLogits(model: TokenModel, request: Parameters<TokenModel['forward']>[0], prune: PruneOptions): Promise<tf.Tensor2D> {
  const { logits } = await model.forward(request, { prune });
  const last = tf.tidy(() => tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]));
  logits.dispose();
  return last;
}

async function inModel(
  backend: (typeof BACKENDS)[number],
  prune: PruneOptions,
  use: (model: TokenModel, images: EncodedImages) => Promise<void>,
): Promise<void> {
  await useBackend(backend);
  await withoutLeaks(async () => {
    const model = fixtureModel(FIXTURE, backend);
    const prepared = fixtureImages(FIXTURE, 2);
    const images = await model.encodeImages(prepared, { prune });
    disposeImages(prepared);
    try {
      await use(model, images);
    } finally {
      images.dispose();
      model.dispose();
    }
  });
}

const METHODS: readonly PruneOptions[] = [
  { method: 'none' },
  { method: 'vispruner', tokens: 5 },
  { method: 'fastervlm', tokens: 3 },
  { method: 'dedup', tokens: 6 },
  { method: 'random', tokens: 4, seed: 2 },
  { method: 'visionzip', tokens: 6, contextual: 2 },
  { method: 'prumerge' },
  { method: 'tome', tokens: 5 },
  { method: 'pool', window: 2 },
  { method: 'fastv', tokens: 4, layer: 1 },
];

/** A conversation that grows: the second image comes in its third prompt. */
const TURNS = [[5, IMAGE, 6, 7], [8, 9, 10, 11, 12], [IMAGE, 13], [14]];

describe.each(BACKENDS)('on %s, a prompt that goes on from a cache', (backend) => {
  it.each(METHODS)('gives the logits of the whole prompt: %j', async (prune) => {
    await inModel(backend, prune, async (model, { images: [first, second] }) => {
      const cache = new PromptCache();
      const inputIds: number[] = [];
      for (const turn of TURNS) {
        inputIds.push(...turn);
        const images = new EncodedImages(inputIds.filter((id) => id === IMAGE).length === 2 ? [first!, second!] : [first!]);
        const cached = await lastLogits(model, { inputIds, images, cache }, prune);
        const whole = await lastLogits(model, { inputIds, images }, prune);
        await expectClose(cached, whole, `after ${inputIds.length} ids`);
        tf.dispose([cached, whole]);
      }
      cache.dispose();
    });
  });

  it('writes the ids of the whole prompt, counts what it reused, and runs only the new rows', async () => {
    const prune = { method: 'vispruner', tokens: 5 } as const;
    await inModel(backend, prune, async (model, { images: [first] }) => {
      const images = new EncodedImages([first!]);
      const cache = new PromptCache();
      const one = await model.generate({ inputIds: [5, IMAGE, 6], images, cache }, { prune, maxNewTokens: 4 });
      expect(one.usage).toMatchObject({ promptTokens: 7, cachedTokens: 0, visualTokens: 5 });
      expect(cache.tokens).toBe(7 + 3); // the last id was drawn and never fed
      const inputIds = [5, IMAGE, 6, ...one.ids, 7, 8];
      const rows: number[] = [];
      const tap = (name: string, value: tf.Tensor) => {
        if (/^language_model.*layers\.0\.self_attn$/.test(name)) rows.push(value.shape[0] as number);
      };
      const two = await model.generate({ inputIds, images, cache }, { prune, maxNewTokens: 4, tap });
      expect(two.usage).toMatchObject({ promptTokens: 13, cachedTokens: 10, visualTokens: 5, visualTokensBefore: 16, enteringTokens: [5, 5, 5] });
      expect(rows).toEqual([3, 1, 1, 1]);
      const whole = await model.generate({ inputIds, images }, { prune, maxNewTokens: 4 });
      expect([...two.ids]).toEqual([...whole.ids]);
      expect(two.visual).toEqual(whole.visual);
      expect(whole.usage).toEqual({ ...two.usage, cachedTokens: 0 });
      cache.dispose();
    });
  });

  it('goes back to where two prompts part, and knows an image only as the same patches of the same one', async () => {
    await inModel(backend, { method: 'none' }, async (model, { images: [first, second] }) => {
      const cache = new PromptCache();
      const cachedTokens = async (inputIds: number[], images: EncodedImages, prune: PruneOptions) => {
        const { usage, ids } = await model.generate({ inputIds, images, cache }, { prune, maxNewTokens: 1 });
        const whole = await model.generate({ inputIds, images }, { prune, maxNewTokens: 1 });
        expect([...ids]).toEqual([...whole.ids]);
        return usage.cachedTokens;
      };
      const one = new EncodedImages([first!]);
      const other = new EncodedImages([second!]);
      expect(await cachedTokens([5, IMAGE, 6, 7], one, { method: 'none' })).toBe(0);
      expect(await cachedTokens([5, IMAGE, 6, 8, 9], one, { method: 'none' })).toBe(18);
      expect(await cachedTokens([5, IMAGE, 6], one, { method: 'none' })).toBe(17); // the last one's logits are wanted
      expect(await cachedTokens([5, IMAGE, 6], other, { method: 'none' })).toBe(1);
      expect(await cachedTokens([5, IMAGE, 6], other, { method: 'random', tokens: 4 })).toBe(1);
      expect(await cachedTokens([5, IMAGE, 7], other, { method: 'random', tokens: 4 })).toBe(5);
      expect(await cachedTokens([5, IMAGE, 7], other, { method: 'fastv', tokens: 4, layer: 1 })).toBe(0);
      expect(cache.tokens).toBe(0); // of no use to a method that reads the text
      cache.dispose();
    });
  });

  it('is as it was before when a call is broken off at any moment', async () => {
    const prune = { method: 'vispruner', tokens: 5 } as const;
    await inModel(backend, prune, async (model, { images }) => {
      const start = { inputIds: [5, IMAGE, 6, IMAGE, 7], images: new EncodedImages(images) };
      const next = { ...start, inputIds: [...start.inputIds, 8, 9, 10] };
      const whole = await lastLogits(model, next, prune);
      let stopAt = 0;
      for (let ended = false; !ended; ) {
        stopAt++;
        const cache = new PromptCache();
        await model.generate({ ...start, cache }, { prune, maxNewTokens: 1 });
        const held = cache.tokens;
        const controller = new AbortController();
        let taps = 0;
        const tap = (name: string) => {
          if (/^language_model.*self_attn$/.test(name) && ++taps === stopAt) controller.abort();
        };
        const run = model.generate({ ...next, cache }, { prune, maxNewTokens: 3, tap, signal: controller.signal });
        ended = await run.then(
          () => true,
          () => false,
        );
        if (!ended) {
          expect(controller.signal.aborted).toBe(true);
          expect(cache.tokens).toBeGreaterThanOrEqual(held);
        }
        const cached = await lastLogits(model, { ...next, cache }, prune);
        await expectClose(cached, whole, `broken off at block ${stopAt}`);
        cached.dispose();
        cache.dispose();
      }
      expect(stopAt).toBe(3 * 3 + 1); // three blocks for the prompt and for each of two tokens: every one was a place to stop
      whole.dispose();
    });
  });

  it('forks: two conversations go on from one', async () => {
    const prune = { method: 'vispruner', tokens: 5 } as const;
    await inModel(backend, prune, async (model, { images: [first] }) => {
      const images = new EncodedImages([first!]);
      const cache = new PromptCache();
      await model.generate({ inputIds: [5, IMAGE, 6], images, cache }, { prune, maxNewTokens: 1 });
      const fork = cache.fork();
      const [a, b] = await model.generateBatch(
        [
          { inputIds: [5, IMAGE, 6, 7], images, cache },
          { inputIds: [5, IMAGE, 6, 8, 9], images, cache: fork },
        ],
        { prune, maxNewTokens: 3 },
      );
      expect([a?.usage.cachedTokens, b?.usage.cachedTokens]).toEqual([7, 7]);
      expect([...a!.ids]).toEqual([...(await model.generate({ inputIds: [5, IMAGE, 6, 7], images }, { prune, maxNewTokens: 3 })).ids]);
      expect([...b!.ids]).toEqual([...(await model.generate({ inputIds: [5, IMAGE, 6, 8, 9], images }, { prune, maxNewTokens: 3 })).ids]);
      await expect(
        model.generateBatch([
          { inputIds: [5], cache },
          { inputIds: [6], cache },
        ]),
      ).rejects.toMatchObject({ code: 'CACHE_SHARED' });
      cache.dispose();
      fork.dispose();
    });
  });
});
