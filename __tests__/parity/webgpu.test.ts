import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { ClipVision, disposeVisionValues } from '../../layers/clip_vision';
import { loadModel } from '../../lib';
import type { VisionLanguageConfig } from '../../lib/config';
import type { TokenModel } from '../../lib/token_model';
import { withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { disposeImages, fixtureConfig, fixtureImages, fixtureModel, type RecordedCase } from '../support/fixture_model';
import { HeldParameters } from '../support/held_parameters';
import { channelsLast, FIXTURES, RecordedFile, readJson } from '../support/recorded';
import { describeWebgpu, useWebgpu } from '../support/webgpu';

const { cases } = readJson<{ cases: RecordedCase[] }>('gqa', 'reference.json');
const reference = new RecordedFile('gqa', 'reference.safetensors');

/** Ids compared where all are compared once already: SwiftShader takes a second for each on a busy machine. */
const FEW = 4;

const SHIPPED = join(FIXTURES, '..', '..', 'weights', 'vispruner-tiny');

interface Asked {
  readonly image: string;
  readonly question: string;
  readonly ids: readonly number[];
  readonly answer_ids: readonly number[];
}

/** The references and tolerances that the other backends are held to. */
describeWebgpu('webgpu against transformers', () => {
  beforeAll(useWebgpu);

  describe.each([
    { directory: 'tiny-llava-hf', prefix: '' },
    { directory: 'gqa', prefix: 'default.' },
  ])('the encoder of $directory', ({ directory, prefix }) => {
    it('has the states after every block, and the class token’s attention', async () => {
      const recorded = new RecordedFile(directory, 'reference.safetensors');
      const weights = new RecordedFile(directory, 'model.safetensors');
      await withoutLeaks(async () => {
        const parameters = new HeldParameters((name) => weights.get(name));
        const { vision_config } = fixtureConfig(directory) as VisionLanguageConfig;
        const vision = new ClipVision(parameters.at('vision_tower'), vision_config);
        const pixels = channelsLast(recorded.get('pixel_values'), 0, 1);
        let states = vision.embed(pixels);
        for (const [k, block] of vision.blocks.entries()) {
          const { hiddenStates, values } = block.apply(states, vision.segments(1), { reads: { class: true } });
          states.dispose();
          states = hiddenStates;
          await expectClose(states, recorded.get(`${prefix}encoder.hidden_states.${k + 1}`), `after block ${k}`);
          const map = recorded.get(`${prefix}encoder.attentions.${k}`);
          const [heads, tokens] = map.shape.slice(-3) as [number, number, number];
          const expected = Float32Array.from({ length: heads * (tokens - 1) }, (_, i) => {
            const head = Math.floor(i / (tokens - 1));
            return map.values[head * tokens * tokens + 1 + (i % (tokens - 1))] as number;
          });
          await expectClose(values[0]?.class as tf.Tensor, { shape: [heads, tokens - 1], values: expected }, `class attention of block ${k}`);
          disposeVisionValues(values);
        }
        tf.dispose([states, pixels]);
        parameters.dispose();
      });
    });
  });

  async function withModel(one: RecordedCase, run: (model: TokenModel, images: ReturnType<typeof fixtureImages>) => Promise<void>): Promise<void> {
    await withoutLeaks(async () => {
      const model = fixtureModel('gqa', 'webgpu', one.config);
      const images = fixtureImages('gqa', one.images);
      await run(model, images);
      disposeImages(images);
      model.dispose();
    });
  }

  it.each(cases.filter(({ method }) => method === undefined))('$name: logits of every row, greedy ids', async (one) => {
    await withModel(one, async (model, images) => {
      const request = { inputIds: one.input_ids, images };
      const { logits } = await model.forward(request);
      await expectClose(logits, reference.get(`${one.name}.logits`), one.name);
      logits.dispose();
      const greedy = one.name === 'default' ? one.greedy : one.greedy.slice(0, FEW);
      const { ids } = await model.generate(request, { maxNewTokens: greedy.length, temperature: 0 });
      expect([...ids]).toEqual(greedy);
    });
  });

  it.each(cases.filter(({ method }) => method === 'vispruner'))('$name: kept patches, logits, greedy ids', async (one) => {
    await withModel(one, async (model, images) => {
      const request = { inputIds: one.input_ids, images };
      const prune = { method: 'vispruner', tokens: one.tokens as number, importantRatio: one.importantRatio } as const;
      const { logits, visual } = await model.forward(request, { prune });
      expect([...(visual[0]?.kept ?? [])]).toEqual(one.kept);
      await expectClose(logits, reference.get(`${one.name}.logits`), one.name);
      logits.dispose();
      const { ids } = await model.generate(request, { prune, maxNewTokens: FEW, temperature: 0 });
      expect([...ids]).toEqual(one.greedy.slice(0, FEW));
    });
  });

  it.each(cases.filter(({ method }) => method === 'fastv'))('$name: logits of the last row, greedy ids', async (one) => {
    await withModel(one, async (model, images) => {
      const request = { inputIds: one.input_ids, images };
      const prune = { method: 'fastv', tokens: one.tokens as number, layer: one.layer } as const;
      const { logits } = await model.forward(request, { prune });
      const last = tf.tidy(() => tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]));
      await expectClose(last, reference.get(`${one.name}.masked_logits`), one.name);
      tf.dispose([logits, last]);
      const { ids } = await model.generate(request, { prune, maxNewTokens: FEW, temperature: 0 });
      expect([...ids]).toEqual(one.greedy.slice(0, FEW));
    });
  });

  it('the shipped model, from its file: prompt ids, logits, the first word', async () => {
    const [asked] = readJson<{ cases: Asked[] }>('shipped', 'reference.json').cases;
    if (!asked) throw new Error('nothing was recorded');
    await withoutLeaks(async () => {
      const model = await loadModel(SHIPPED, { backend: 'webgpu' });
      const inputIds = model.chatProcessor.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: asked.question }] }], 1);
      expect([...inputIds]).toEqual(asked.ids);
      const images = await model.prepareImages([join(FIXTURES, '..', '..', 'examples', 'images', asked.image)]);
      const { logits } = await model.forward({ inputIds, images });
      const last = tf.tidy(() => tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]));
      await expectClose(last, new RecordedFile('shipped', 'reference.safetensors').get('0.logits'), asked.question);
      const best = tf.argMax(last, -1);
      expect([...(await best.data())]).toEqual(asked.answer_ids.slice(0, 1));
      tf.dispose([logits, last, best]);
      disposeImages(images);
      model.dispose();
    });
  }, 600_000);
});
