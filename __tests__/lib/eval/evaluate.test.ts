import * as tf from '@tensorflow/tfjs';
import type { VisionLanguageConfig } from '../../../lib/config';
import { disposeEncoded } from '../../../lib/encoded';
import {
  accuracies,
  accuracyMarkdown,
  type Condition,
  conditionsOf,
  type EvaluatedModel,
  evaluate,
  type SceneRecord,
  sceneQuestions,
} from '../../../lib/eval';
import { firstTokens, sharePrompts } from '../../../lib/eval/first_tokens';
import { Pacer } from '../../../lib/pacer';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { encodeQuestion, generateScene, HELD_OUT_SEEDS, QUESTION_TYPES, VOCABULARY } from '../../../lib/scenes';
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
    llava: model.layers,
    imageToken,
    prepare: async ({ data }) => {
      const [first, second] = fixtureImages('tiny-llava-hf', 2);
      const [used, other] = (data[0] as number) % 2 === 0 ? [first, second] : [second, first];
      disposeImages([other!]);
      return used!;
    },
    encodePrompt: (question, withImage) => Int32Array.of(1, 5, ...(withImage ? [imageToken] : []), ...encodeQuestion(question)),
    decode: (id) => VOCABULARY[id] ?? `#${id}`,
  };
});
afterAll(() => model.dispose());

const options = {
  methods: ['vispruner', 'fastv', 'random'] as const,
  budgets: [0.5, 0.25],
  randomSeeds: [1, 2],
  blind: true,
  importantRatio: 0.5,
  patches: PATCHES,
  decoderBlocks: BLOCKS,
};

async function all(conditions: readonly Condition[], questions: number, done?: readonly SceneRecord[]): Promise<SceneRecord[]> {
  const records: SceneRecord[] = [...(done ?? [])];
  for await (const record of evaluate(evaluated, { conditions, questions, done })) records.push(record);
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
        expect((await alone.data())[0]).toBe(together[i]);
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

describe('an evaluation', () => {
  it('asks at least as many questions as wanted, of held-out scenes only, at most one of a type for each', async () => {
    await withoutLeaks(async () => {
      const records = await all(conditionsOf(options), 15);
      expect(records.flatMap(({ questions }) => questions).length).toBeGreaterThanOrEqual(15);
      expect(records.slice(0, -1).flatMap(({ questions }) => questions).length).toBeLessThan(15);
      expect(records.map(({ seed }) => seed)).toEqual(records.map((_, i) => HELD_OUT_SEEDS.first + i));
      for (const { questions } of records) {
        expect(new Set(questions.map(({ type }) => type)).size).toBe(questions.length);
        for (const { said } of questions)
          expect(Object.keys(said).sort()).toEqual(
            conditionsOf(options)
              .map(({ key }) => key)
              .sort(),
          );
      }
    });
  });

  it('goes on behind the records of an earlier run and ends with the same records', async () => {
    const conditions = conditionsOf(options);
    const whole = await all(conditions, 15);
    expect(await all(conditions, 15, JSON.parse(JSON.stringify(whole.slice(0, 1))) as SceneRecord[])).toEqual(whole);
  });

  it('stops at an abort and frees what it held', async () => {
    await withoutLeaks(async () => {
      const controller = new AbortController();
      controller.abort(new Error('enough'));
      const run = async (): Promise<void> => {
        for await (const record of evaluate(evaluated, { conditions: conditionsOf(options), questions: 15, signal: controller.signal })) void record;
      };
      await expect(run()).rejects.toThrow('enough');
    });
  });

  it('withholds the image from the blind: its answers are those of the text alone', async () => {
    const [record] = await all(conditionsOf({ ...options, methods: [] }), 1);
    for (const { text, said } of record!.questions) {
      const { logits } = await model.forward({ inputIds: evaluated.encodePrompt(text, false) });
      const best = tf.tidy(() => tf.argMax(tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]), 1));
      expect(said['blind']).toBe(evaluated.decode((await best.data())[0]!));
      tf.dispose([logits, best]);
    }
  });
});

describe('the tables', () => {
  const conditions = conditionsOf({ ...options, patches: 256, decoderBlocks: 4, budgets: [0.5, 0.11] });
  const records = Array.from({ length: 40 }, (_, i): SceneRecord => {
    const scene = generateScene(HELD_OUT_SEEDS.first + i);
    const questions = sceneQuestions(scene).map((question) => {
      const said = Object.fromEntries(conditions.map(({ key }) => [key, key === 'all' || question.type === 'exists' ? question.answer : 'no idea']));
      return { ...question, said };
    });
    return { seed: scene.seed, questions };
  });
  const found = accuracies(records, conditions);

  it('count right answers by condition and by type', () => {
    const asked = records.flatMap(({ questions }) => questions);
    const exists = asked.filter(({ type }) => type === 'exists').length;
    expect(found.find(({ key }) => key === 'all')!.all).toMatchObject({ right: asked.length, total: asked.length });
    const blind = found.find(({ key }) => key === 'blind')!;
    expect(blind.all).toMatchObject({ right: exists, total: asked.length });
    for (const type of QUESTION_TYPES) expect(blind.byType[type].right).toBe(type === 'exists' ? exists : 0);
    const yes = asked.filter(({ type, answer }) => type === 'exists' && answer === 'yes').length;
    expect(found.at(-1)).toMatchObject({ key: 'commonest', byType: { exists: { right: Math.max(yes, exists - yes) } } });
  });

  it('print a row for each method and seed, a column for each budget, and a dash where a budget is out of reach', () => {
    const lines = accuracyMarkdown(found).split('\n');
    const cells = (start: string) =>
      lines
        .find((line) => line.startsWith(`| ${start}`))!
        .split('|')
        .map((cell) => cell.trim());
    expect(cells('tokens entering').slice(2, 5)).toEqual(['256 (100%)', '128 (50%)', '28 (11%)']);
    expect(cells('fastv (block 1)')[4]).toBe('-');
    expect(cells('fastv, by tokens kept')[4]).toMatch(/ at 85$/);
    for (const row of ['vispruner, r = 0.5', 'random, seed 1', 'random, seed 2']) expect(cells(row)[2]).toMatch(/^100\.0 \(/);
    expect(cells('**all**')[3]).toMatch(/^100\.0 \(9\d\.\d-100\.0\)$/);
  });
});
