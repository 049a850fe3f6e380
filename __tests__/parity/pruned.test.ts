import * as tf from '@tensorflow/tfjs';
import type { TokenModel } from '../../lib/token_model';
import type { Prune } from '../../lib/token_request';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose, expectSame } from '../support/compare';
import { disposeImages, fixtureImages, fixtureModel, type RecordedCase } from '../support/fixture_model';
import { RecordedFile, readJson } from '../support/recorded';

const { cases } = readJson<{ cases: RecordedCase[] }>('gqa', 'reference.json');
const reference = new RecordedFile('gqa', 'reference.safetensors');
const visPruner = cases.filter((one) => one.method === 'vispruner');
const fastV = cases.filter((one) => one.method === 'fastv');
const plain = cases[0] as RecordedCase;
const BLOCKS = 3;
const PATCHES = 16;

function pruneOf(one: RecordedCase): Prune {
  const tokens = one.tokens as number;
  return one.method === 'vispruner'
    ? { method: 'vispruner', tokens, importantRatio: one.importantRatio }
    : { method: 'fastv', tokens, layer: one.layer };
}

describe.each(BACKENDS)('the pruned forward against transformers on %s', (backend) => {
  let model: TokenModel;
  let images: ReturnType<typeof fixtureImages>;
  beforeAll(async () => {
    await useBackend(backend);
    model = fixtureModel('gqa', backend);
    images = fixtureImages('gqa', 2);
  });
  afterAll(() => {
    disposeImages(images);
    model.dispose();
  });
  const request = (one: RecordedCase) => ({ inputIds: one.input_ids, images: images.slice(0, one.images) });

  it.each(visPruner.slice(0, backend === 'cpu' ? 1 : undefined))(
    '$name: the kept patches, the logits over the shortened prompt, the greedy ids',
    async (one) => {
      await withoutLeaks(async () => {
        const { logits, visual, enteringTokens } = await model.forward(request(one), { prune: pruneOf(one) });
        expect([...(visual[0]?.kept ?? [])]).toEqual(one.kept);
        expect(enteringTokens).toEqual(Array(BLOCKS).fill(one.tokens));
        await expectClose(logits, reference.get(`${one.name}.logits`), one.name);
        logits.dispose();
        const { ids, usage } = await model.generate(request(one), { prune: pruneOf(one), maxNewTokens: one.greedy.length, temperature: 0 });
        expect([...ids]).toEqual(one.greedy);
        expect(usage).toMatchObject({
          visualTokens: one.tokens,
          visualTokensBefore: PATCHES,
          promptTokens: one.input_ids.length - PATCHES + (one.tokens as number),
        });
      });
    },
  );

  it.each(fastV.slice(0, backend === 'cpu' ? 1 : undefined))(
    '$name: dropping gives the logits that hiding by a mask gives, and the cache the ids that no cache gives',
    async (one) => {
      await withoutLeaks(async () => {
        const { logits, enteringTokens } = await model.forward(request(one), { prune: pruneOf(one) });
        const last = tf.tidy(() => tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]));
        await expectClose(last, reference.get(`${one.name}.masked_logits`), 'hidden by a mask');
        await expectClose(last, reference.get(`${one.name}.logits`), 'dropped');
        tf.dispose([logits, last]);
        const [layer, tokens] = [one.layer as number, one.tokens as number];
        expect(enteringTokens).toEqual(Array.from({ length: BLOCKS }, (_, k) => (k < layer ? PATCHES : tokens)));
        const { ids, usage } = await model.generate(request(one), { prune: pruneOf(one), maxNewTokens: one.greedy.length, temperature: 0 });
        expect([...ids]).toEqual(one.greedy);
        expect(usage.enteringTokens.reduce((sum, count) => sum + count) / BLOCKS).toBeCloseTo(
          (layer * PATCHES + (BLOCKS - layer) * tokens) / BLOCKS,
          12,
        );
      });
    },
  );
});

describe('the pruned forward on wasm', () => {
  let model: TokenModel;
  let images: ReturnType<typeof fixtureImages>;
  beforeAll(async () => {
    await useBackend('wasm');
    model = fixtureModel('gqa', 'wasm');
    images = fixtureImages('gqa', 2);
  });
  afterAll(() => {
    disposeImages(images);
    model.dispose();
  });

  it.each<Prune>([
    { method: 'none' },
    { method: 'vispruner', tokens: PATCHES },
    { method: 'vispruner', tokens: PATCHES, importantRatio: 1 },
    { method: 'fastervlm', tokens: PATCHES },
    { method: 'dedup', tokens: PATCHES },
    { method: 'random', tokens: PATCHES, seed: 3 },
    { method: 'fastv', tokens: PATCHES, layer: 1 },
  ])('keeping all by %j is exactly the model unpruned', async (prune) => {
    await withoutLeaks(async () => {
      const request = { inputIds: plain.input_ids, images: images.slice(0, 1) };
      const unpruned = await model.forward(request);
      const pruned = await model.forward(request, { prune });
      await expectSame(pruned.logits, unpruned.logits, JSON.stringify(prune));
      tf.dispose([pruned.logits, unpruned.logits]);
      const { ids } = await model.generate(request, { prune, maxNewTokens: 12, temperature: 0 });
      expect([...ids]).toEqual(plain.greedy);
    });
  });

  it.each<Prune>([
    { method: 'vispruner', tokens: 7 },
    { method: 'fastervlm', tokens: 3 },
    { method: 'dedup', tokens: 8 },
    { method: 'random', tokens: 8, seed: 11 },
  ])('%j equals the decoder run by hand on the kept rows of all projected patches', async (prune) => {
    await withoutLeaks(async () => {
      const { logits, visual } = await model.forward({ inputIds: plain.input_ids, images: images.slice(0, 1) }, { prune });
      const kept = [...(visual[0]?.kept ?? [])];
      const first = plain.input_ids.indexOf(60);
      const embeddings = reference.tensor('default.inputs_embeds') as tf.Tensor2D; // all patches are in it, projected by transformers
      const rows = [...plain.input_ids.keys()].filter((row) => row < first || row >= first + PATCHES || kept.includes(row - first));
      const byHand = tf.tidy(() => decode(model, tf.gather(embeddings, tf.tensor1d(rows, 'int32'))));
      await expectClose(logits, byHand, JSON.stringify(prune));
      tf.dispose([logits, embeddings, byHand]);
    });
  });

  it('tiny-llava-hf: VisPruner and FastV with 8 of 16', async () => {
    const recorded = new RecordedFile('tiny-llava-hf', 'reference.safetensors');
    const { pruned } = readJson<{ pruned: { kept: number[]; greedy: number[] } }>('tiny-llava-hf', 'reference.json');
    const fastv = readJson<{ layer: number; tokens: number; greedy: number[] }>('tiny-llava-hf', 'fastv.json');
    await withoutLeaks(async () => {
      const tiny = fixtureModel('tiny-llava-hf', 'wasm');
      const tinyImages = fixtureImages('tiny-llava-hf', 1);
      const request = { inputIds: recorded.ids('input_ids'), images: tinyImages };
      const first = await tiny.forward(request, { prune: { method: 'vispruner', tokens: 8 } });
      expect([...(first.visual[0]?.kept ?? [])]).toEqual(pruned.kept);
      await expectClose(first.logits, new RecordedFile('tiny-llava-hf', 'pruned.safetensors').get('logits'), 'VisPruner');
      const generated = await tiny.generate(request, {
        prune: { method: 'vispruner', tokens: 8 },
        maxNewTokens: pruned.greedy.length,
        temperature: 0,
      });
      expect([...generated.ids]).toEqual(pruned.greedy);
      const second = await tiny.forward(request, { prune: { method: 'fastv', tokens: fastv.tokens, layer: fastv.layer } });
      const last = tf.tidy(() => tf.slice(second.logits, [second.logits.shape[0] - 1, 0], [1, -1]));
      await expectClose(last, new RecordedFile('tiny-llava-hf', 'fastv.safetensors').get('masked_logits'), 'FastV');
      const cached = await tiny.generate(request, {
        prune: { method: 'fastv', tokens: 8, layer: 2 },
        maxNewTokens: fastv.greedy.length,
        temperature: 0,
      });
      expect([...cached.ids]).toEqual(fastv.greedy);
      tf.dispose([first.logits, second.logits, last]);
      disposeImages(tinyImages);
      tiny.dispose();
    });
  });

  it.each<Prune>([
    { method: 'vispruner', tokens: 6 },
    { method: 'fastv', tokens: 6, layer: 1 },
    { method: 'fastv', tokens: 1, layer: 2 },
  ])('requests of different lengths pruned together by %j give the ids of each alone', async (prune) => {
    await withoutLeaks(async () => {
      const requests = ['default', 'two-images', 'no-image'].map((name) => {
        const one = cases.find((found) => found.name === name) as RecordedCase;
        return { inputIds: one.input_ids, images: images.slice(0, one.images) };
      });
      const options = { prune, maxNewTokens: 10, temperature: 0 };
      const together = await model.generateBatch(requests, options);
      for (const [i, request] of requests.entries()) {
        const alone = await model.generate(request, options);
        expect([...(together[i]?.ids ?? [])]).toEqual([...alone.ids]);
        expect(together[i]?.visual).toEqual(alone.visual);
        expect(together[i]?.usage).toEqual(alone.usage);
      }
    });
  });
});

/** The decoder's blocks over embeddings at positions 0, 1, ... -> logits [S, vocabulary] */
function decode(model: TokenModel, embeddings: tf.Tensor2D): tf.Tensor2D {
  const { language } = model.layers;
  const length = embeddings.shape[0];
  const positions = Int32Array.from({ length }, (_, i) => i);
  const hidden = tf.mul<tf.Tensor2D>(tf.sub(1, tf.linalg.bandPart(tf.ones([length, length]), -1, 0)), -1e9); // what lies after a row
  const context = { segments: [{ start: 0, length }], masks: [hidden], positions, rotary: language.rotary.table(positions) };
  return language.logits(language.blocks.reduce((rows, block) => block.apply(rows, context), embeddings));
}
