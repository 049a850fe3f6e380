import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  createPruner,
  type EncoderFacts,
  loadModel,
  type Prune,
  type PruneOptions,
  type Pruner,
  Random,
  selectTokens,
  type VisionLanguageModel,
  visPruner,
} from '../../lib/index';
import { changeJson, changeTensors, copyOf, type Refusal, refuses, SHIPPED, type Stored, useFolder, useShippedModel, works } from './refusal';

const STARS = join(__dirname, '../../examples/images/stars.png');
const QUESTION = 'where is the yellow object?';
/** Patches of an image of the shipped model. */
const PATCHES = 256;

let model: VisionLanguageModel;

useFolder();
useShippedModel((loaded) => {
  model = loaded;
});

/** Asks with pruning options as JavaScript lets them be written. */
function asking(options: unknown): () => Promise<unknown> {
  return () => model.ask(STARS, QUESTION, { prune: options as PruneOptions });
}

function row(kind: Refusal['kind'], what: string, act: () => Promise<unknown>, code: Refusal['code'], ...tells: (string | RegExp)[]): Refusal {
  return { kind, what, act, name: 'PruneError', code, tells };
}

/** The shipped model with another directory, asked with pruning. */
async function askingOther(change: (copy: string) => Promise<unknown>, prune: Prune): Promise<unknown> {
  const other = await loadModel(await copyOf(SHIPPED, change));
  return other.ask(STARS, QUESTION, { prune }).finally(() => other.dispose());
}

const METHODS = ['vispruner', 'fastervlm', 'dedup', 'random', 'fastv'] as const;

refuses([
  ...[0, -1, 2.5, Number.NaN, Number.POSITIVE_INFINITY, '32', null].map((tokens) =>
    row(51, `tokens of ${String(tokens)}`, asking({ method: 'vispruner', tokens }), 'TOKENS_INVALID', '"tokens"', String(tokens)),
  ),
  ...METHODS.map((method) =>
    row(51, `one more than ${PATCHES} patches, for ${method},`, asking({ method, tokens: 257 }), 'TOKENS_EXCEED_PATCHES', '257', '256'),
  ),
  row(51, 'a method without a budget', asking({ method: 'vispruner' }), 'BUDGET_MISSING', '"tokens"', '"keepRatio"'),
  row(51, 'two budgets', asking({ method: 'vispruner', tokens: 8, keepRatio: 0.5 }), 'BUDGET_AMBIGUOUS', '8', '0.5'),
  row(51, 'a misspelt budget', asking({ method: 'vispruner', token: 8 }), 'METHOD_OPTION_UNKNOWN', '"token"', 'tokens, keepRatio'),
  row(51, 'a misspelt method', asking({ method: 'vispruned', tokens: 8 }), 'METHOD_UNKNOWN', '"vispruned"', 'vispruner'),
  row(51, 'a method as a word', asking('vispruner'), 'OPTIONS_INVALID', '"vispruner"'),
  row(
    51,
    'a misspelt option of the function',
    () => onTensors((features, attention) => visPruner(features, attention, { tokens: 4, importanceRatio: 0.9 } as { tokens: number })),
    'METHOD_OPTION_UNKNOWN',
    '"importanceRatio"',
    'importantRatio',
  ),
  ...[-0.1, 1.1, Number.NaN, '0.5'].map((importantRatio) =>
    row(
      52,
      `importantRatio of ${String(importantRatio)}`,
      asking({ method: 'vispruner', tokens: 8, importantRatio }),
      'IMPORTANT_RATIO_INVALID',
      '"importantRatio"',
      String(importantRatio),
    ),
  ),
  ...[0, -0.1, 1.1, Number.NaN].map((keepRatio) =>
    row(52, `keepRatio of ${keepRatio}`, asking({ method: 'vispruner', keepRatio }), 'KEEP_RATIO_INVALID', '"keepRatio"', String(keepRatio)),
  ),
  row(
    54,
    'NaN in the weights of the block whose attention ranks patches',
    () =>
      askingOther(
        (copy) =>
          changeTensors(join(copy, 'model.safetensors'), (tensors) => {
            const name = 'vision_tower.vision_model.encoder.layers.4.self_attn.q_proj.bias';
            const stored = tensors.get(name) as Stored;
            const bytes = Uint8Array.from(stored.bytes);
            new DataView(bytes.buffer).setUint16(0, 0x7e00, true);
            tensors.set(name, { ...stored, bytes });
          }),
        { method: 'vispruner', tokens: 16 },
      ),
    'ATTENTION_NOT_FINITE',
    'visual token 0 of 256',
    'NaN',
  ),
  row(
    54,
    'one NaN among scores',
    async () => selectTokens(Float32Array.of(0.1, Number.NaN, 0.2, 0.3), new Float32Array(16), { tokens: 2 }),
    'ATTENTION_NOT_FINITE',
    'visual token 1 of 4',
  ),
  row(
    54,
    'NaN in the features',
    () =>
      onTensors((features, attention) => {
        const broken = tf.mul<tf.Tensor2D>(features, Number.NaN);
        return visPruner(broken, attention, { tokens: 4 }).finally(() => broken.dispose());
      }),
    'FEATURES_NOT_FINITE',
    'patch 0',
  ),
  row(
    58,
    'features that are the embeddings, before any block has a class token to look with,',
    () =>
      askingOther(
        (copy) =>
          changeJson<{ vision_feature_layer: number }>(join(copy, 'config.json'), (config) => {
            config.vision_feature_layer = 0;
          }),
        { method: 'vispruner', tokens: 16 },
      ),
    'ATTENTION_UNAVAILABLE',
    'vision_feature_layer',
    '"random"',
  ),
  row(
    58,
    'a method of my own that reads a block which the encoder does not have',
    () => asking({ ...createPruner({ method: 'vispruner', tokens: 16 }), needs: () => ({ attention: [{ block: 9, rows: 'class' }] }) })(),
    'ATTENTION_UNAVAILABLE',
    'block 9',
    '0 to 5',
  ),
]);

/** Runs with random features [12, 5] and attention [2, 12], and frees them. */
async function onTensors<T>(run: (features: tf.Tensor2D, attention: tf.Tensor2D) => Promise<T>, patches = 12): Promise<T> {
  const random = new Random(3);
  const values = (count: number) => Float32Array.from({ length: count }, () => random.uniform() + 0.1);
  const features = tf.tensor2d(values(patches * 5), [patches, 5]);
  const attention = tf.tensor2d(values(2 * patches), [2, patches]);
  return run(features, attention).finally(() => tf.dispose([features, attention]));
}

works(53, 'they are like no other patch, and neither fail nor crowd out the rest', async () => {
  const features = tf.tensor2d([
    [0, 0],
    [1, 0],
    [1, 0],
    [0, 0],
    [0, 1],
    [0, 1],
  ]);
  const attention = tf.zeros<tf.Rank.R2>([1, 6]);
  const kept = await visPruner(features, attention, { tokens: 4, importantRatio: 0, step: 1 });
  tf.dispose([features, attention]);
  expect(Array.from(kept)).toEqual(expect.arrayContaining([0, 3]));
  expect(new Set(kept).size).toBe(4);
});

works(55, 'the lower patch comes first, each time', async () => {
  await onTensors(async (features) => {
    const even = tf.ones<tf.Rank.R2>([2, 12]);
    const first = await visPruner(features, even, { tokens: 4, importantRatio: 1 });
    const again = await visPruner(features, even, { tokens: 4, importantRatio: 1 });
    even.dispose();
    expect([Array.from(first), Array.from(again)]).toEqual([
      [0, 1, 2, 3],
      [0, 1, 2, 3],
    ]);
  });
});

works(56, 'T patches are kept, ascending, of every N to 9 and with every step to 9', async () => {
  for (let patches = 1; patches <= 9; patches++) {
    await onTensors(async (features, attention) => {
      for (let tokens = 1; tokens <= patches; tokens++) {
        for (const step of [1, 2, 3, 8, 9]) {
          const kept = Array.from(await visPruner(features, attention, { tokens, importantRatio: 0.5, step }));
          expect(kept).toHaveLength(tokens);
          expect(kept).toEqual([...new Set(kept)].sort((a, b) => a - b));
          expect(kept.every((patch) => patch >= 0 && patch < patches)).toBe(true);
        }
      }
    }, patches);
  }
});

works(57, 'logits are those of the unpruned model, to the last bit, for every method', async () => {
  const images = await model.prepareImages([STARS]);
  const inputIds = model.chatProcessor.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: QUESTION }] }], 1);
  const logits = async (prune: PruneOptions) => {
    const result = await model.forward({ inputIds, images }, { prune });
    const values = await result.logits.data();
    result.logits.dispose();
    return Array.from(values);
  };
  const whole = await logits({ method: 'none' });
  for (const method of METHODS) expect([method, await logits({ method, tokens: PATCHES })]).toEqual([method, whole]);
  tf.dispose(images.map(({ pixelValues }) => pixelValues));
});

works(58, 'patches are ranked by what they receive in the last block', async () => {
  const blind = (facts: EncoderFacts): EncoderFacts => ({ ...facts, hasClassToken: false });
  const usual = createPruner({ method: 'vispruner', tokens: 16 });
  const prune: Pruner = {
    ...usual,
    needs: (facts) => usual.needs(blind(facts)),
    begin: (request) => usual.begin({ ...request, encoder: blind(request.encoder) }),
  };
  const prepared = await model.prepareImages([STARS]);
  const encoded = await model.encodeImages(prepared, { prune });
  const [crop] = encoded.images[0]?.crops ?? [];
  const [[need, received] = ['', undefined]] = crop?.attention ?? [];
  expect(need).toBe('5 received');
  const expected = await visPruner(crop?.features as tf.Tensor2D, received as tf.Tensor2D, { tokens: 16 });
  const { visual } = await model.ask(encoded, QUESTION, { prune });
  expect(Array.from(visual[0]?.kept ?? [])).toEqual(Array.from(expected));
  encoded.dispose();
  tf.dispose(prepared.map(({ pixelValues }) => pixelValues));
});
