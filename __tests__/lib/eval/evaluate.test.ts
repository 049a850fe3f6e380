import * as tf from '@tensorflow/tfjs';
import type { VisionLanguageConfig } from '../../../lib/config';
import { disposeEncoded } from '../../../lib/encoded';
import {
  type Condition,
  type ConditionOptions,
  conditionsOf,
  type DataSet,
  type EvaluatedModel,
  evaluate,
  type ImageRecord,
  imagesFor,
  parseMethods,
  scenesData,
} from '../../../lib/eval';
import { answersOf } from '../../../lib/eval/answers';
import { firstTokens, sharePrompts } from '../../../lib/eval/first_tokens';
import type { RgbImage } from '../../../lib/image/types';
import { Pacer } from '../../../lib/pacer';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { encodeQuestion, HELD_OUT_SEEDS, layoutScene, VOCABULARY } from '../../../lib/scenes';
import type { TokenModel } from '../../../lib/token_model';
import { useBackend, withoutLeaks } from '../../support/backends';
import { disposeImages, fixtureImages, fixtureModel } from '../../support/fixture_model';

const PATCHES = 16;
const BLOCKS = 3;

let model: TokenModel;
let imageToken: number;
let evaluated: EvaluatedModel;

/** The fixture's own pictures stand in for scenes: what matters here is who asks what, and that short cuts change nothing. */
beforeAll(async () => {
  await useBackend('wasm');
  model = fixtureModel('tiny-llava-hf', 'wasm');
  imageToken = (model.config as VisionLanguageConfig).image_token_index;
  evaluated = {
    tokens: model,
    imageToken,
    prepare: async (image) => {
      const { data } = image as RgbImage;
      const [first, second] = fixtureImages('tiny-llava-hf', 2);
      const [used, other] = (data[0] as number) % 2 === 0 ? [first, second] : [second, first];
      disposeImages([other!]);
      return used!;
    },
    encodePrompt: (question, withImage) => Int32Array.of(1, 5, ...(withImage ? [imageToken] : []), ...encodeQuestion(question)),
    decode: (ids) => Array.from(ids, (id) => VOCABULARY[id] ?? `#${id}`).join(' '),
  };
});
afterAll(() => model.dispose());

const options: ConditionOptions = {
  methods: parseMethods('vispruner,fastv,random'),
  budgets: [0.5, 0.25],
  seeds: [1, 2],
  blind: true,
  patches: PATCHES,
  decoderBlocks: BLOCKS,
};
const data = scenesData();

async function all(conditions: readonly Condition[], images: readonly number[], { from = data, timed = 0 } = {}): Promise<ImageRecord[]> {
  const records: ImageRecord[] = [];
  for await (const record of evaluate(evaluated, from, { conditions, images, timed })) records.push(record);
  return records;
}

describe('the first tokens of questions that share an image', () => {
  const ends = ['is there a star?', 'is the red circle left or right of the blue ring?', 'which letter is there?'].map(encodeQuestion);

  it.each<PruneOptions>([
    { method: 'none' },
    { method: 'vispruner', tokens: 6 },
    { method: 'random', tokens: 5, seed: 4 },
    { method: 'fastv', tokens: 4, layer: 1 },
  ])('are those of each whole prompt asked alone, with %j', async (prune) => {
    await withoutLeaks(async () => {
      const images = fixtureImages('tiny-llava-hf', 1);
      const prompts = ends.map((end) => Int32Array.of(1, 5, imageToken, ...end));
      const pruner = createPruner(prune);
      const encoded = await model.layers.encode(images, [pruner.needs(model.layers.encoder)], { pacer: new Pacer() });
      const together = await firstTokens(model.layers, sharePrompts(prompts, imageToken), encoded, { pruner, pacer: new Pacer() });
      for (const [i, inputIds] of prompts.entries()) {
        const { logits } = await model.forward({ inputIds, images }, { prune });
        const alone = tf.tidy(() => tf.argMax(tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]), 1));
        expect((await alone.data())[0]).toBe(together.ids[i]);
        tf.dispose([logits, alone]);
      }
      disposeEncoded(encoded);
      disposeImages(images);
    });
  });

  it('refuse prompts that do not begin alike, which would be answered from the wrong cache', () => {
    const one = Int32Array.of(1, 5, imageToken, 8);
    expect(() => sharePrompts([one, Int32Array.of(1, 6, imageToken, 8)], imageToken)).toThrow(/begin/);
    expect(sharePrompts([one, Int32Array.of(1, 5, imageToken, 9, 9)], imageToken).ends.map((end) => [...end])).toEqual([[8], [9, 9]]);
  });
});

describe('answers of several words to questions that share an image', () => {
  const ends = ['is there a star?', 'is the red circle left or right of the blue ring?', 'which letter is there?'].map(encodeQuestion);

  it.each<PruneOptions>([{ method: 'none' }, { method: 'vispruner', tokens: 6 }, { method: 'fastv', tokens: 4, layer: 1 }])(
    'are those of each question asked alone, with %j',
    async (prune) => {
      await withoutLeaks(async () => {
        const images = fixtureImages('tiny-llava-hf', 1);
        const prompts = ends.map((end) => Int32Array.of(1, 5, imageToken, ...end));
        const pruner = createPruner(prune);
        const encoded = await model.encodeImages(images, { prune: pruner });
        const together = await answersOf(evaluated, sharePrompts(prompts, imageToken), encoded, { pruner, maxNewTokens: 5, pacer: new Pacer() });
        for (const [i, inputIds] of prompts.entries()) {
          const alone = await model.generate({ inputIds, images }, { prune, maxNewTokens: 5 });
          expect(together.texts[i]).toBe(evaluated.decode(alone.ids));
          expect(together.entering[i]).toEqual(alone.usage.enteringTokens);
        }
        encoded.dispose();
        disposeImages(images);
      });
    },
  );
});

describe('an evaluation', () => {
  const { asked } = conditionsOf(options);

  it('asks as many images as hold the questions wanted, of held-out scenes only', () => {
    const { images, questions } = imagesFor(data, 15);
    const count = (image: number): number => data.questions(image).length;
    expect(questions).toBe(Array.from({ length: images }, (_, image) => count(image)).reduce((sum, one) => sum + one, 0));
    expect(questions).toBeGreaterThanOrEqual(15);
    expect(questions - count(images - 1)).toBeLessThan(15);
    expect(layoutScene(HELD_OUT_SEEDS.first).seed).toBe(HELD_OUT_SEEDS.first);
    for (let image = 0; image < 20; image++) {
      const groups = data.questions(image).map(({ group }) => group);
      expect(new Set(groups).size).toBe(groups.length);
    }
  });

  it('asks every question under every condition, and measures what entered', async () => {
    await withoutLeaks(async () => {
      const records = await all(asked, [0, 3]);
      expect(records.map(({ image }) => image)).toEqual([0, 3]);
      for (const { image, questions, entering, time } of records) {
        expect(questions.map(({ said: _, ...question }) => question)).toEqual(data.questions(image));
        for (const { said } of questions) expect(Object.keys(said).sort()).toEqual(asked.map(({ key }) => key).sort());
        for (const { key, averageTokens } of asked) if (key !== 'blind') expect(entering[key]).toBeCloseTo(averageTokens!, 1);
        expect(time).toBeUndefined();
      }
    });
  });

  it('goes on behind an earlier run with the answers that one run would have given', async () => {
    const whole = await all(asked, [0, 1]);
    expect([...(await all(asked, [0])), ...(await all(asked, [1]))]).toEqual(whole);
  });

  it('times a question asked alone, of the first images, under each condition that sees the image', async () => {
    await withoutLeaks(async () => {
      const [first, later] = await all(asked, [0, 1], { timed: 1 });
      expect(Object.keys(first!.time!).sort()).toEqual(
        asked
          .map(({ key }) => key)
          .filter((key) => key !== 'blind')
          .sort(),
      );
      for (const { encode, prefill, total } of Object.values(first!.time!)) {
        expect(encode).toBeGreaterThan(0);
        expect(prefill).toBeGreaterThan(0);
        expect(total).toBeGreaterThanOrEqual(encode + prefill - 0.1);
      }
      expect(later!.time).toBeUndefined();
    });
  });

  it('writes longer answers where the data set has such', async () => {
    const longer: DataSet = { ...data, maxNewTokens: 3 };
    const [record] = await all(asked.slice(0, 1), [0], { from: longer });
    for (const { said } of record!.questions) expect(said['all']!.split(' ').length).toBeGreaterThan(1);
  });

  it('stops at an abort and frees what it held', async () => {
    await withoutLeaks(async () => {
      const controller = new AbortController();
      controller.abort(new Error('enough'));
      const run = async (): Promise<void> => {
        for await (const record of evaluate(evaluated, data, { conditions: asked, images: [0], signal: controller.signal })) void record;
      };
      await expect(run()).rejects.toThrow('enough');
    });
  });

  it('withholds the image from the blind: its answers are those of the text alone', async () => {
    const [record] = await all(conditionsOf({ ...options, methods: [] }).asked, [0]);
    for (const { text, said } of record!.questions) {
      const { logits } = await model.forward({ inputIds: evaluated.encodePrompt(text, false) });
      const best = tf.tidy(() => tf.argMax(tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]), 1));
      expect(said['blind']).toBe(evaluated.decode([(await best.data())[0]!]));
      tf.dispose([logits, best]);
    }
  });
});
