/**
 * A model built in code, and every layer used alone: no checkpoint, no tokenizer, nothing but a configuration and a seed.
 *
 *   npx ts-node examples/layers.ts
 *
 * Each step ends in a law that must hold; the program fails when one does not.
 */
import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs';
import {
  buildModel,
  ClipVision,
  type ClipVisionShape,
  causalMask,
  float32Factory,
  Linear,
  Llama,
  type LlamaShape,
  Projector,
  RmsNorm,
  seedSource,
  useBackend,
  visPruner,
} from '../lib/index';

const vision: ClipVisionShape = {
  hidden_size: 48,
  intermediate_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_channels: 3,
  image_size: 56,
  patch_size: 7,
  layer_norm_eps: 1e-5,
  hidden_act: 'quick_gelu',
};

const text: LlamaShape = {
  vocab_size: 96,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  rms_norm_eps: 1e-6,
  hidden_act: 'silu',
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: true,
  rope_parameters: { rope_type: 'default', rope_theta: 10000 },
};

const IMAGE_TOKEN = 90;

async function largestDifference(a: tf.Tensor, b: tf.Tensor): Promise<number> {
  const difference = tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))));
  const value = (await difference.data())[0] ?? Number.NaN;
  difference.dispose();
  return value;
}

/** A layer declares what it needs under a checkpoint's names; a source fills it afterwards. Here the source is a seed. */
async function smallLayers(): Promise<void> {
  const source = seedSource(7, float32Factory());
  const linear = new Linear(source.root.at('q_proj'), 64, 32, { bias: true });
  const norm = new RmsNorm(source.root.at('input_layernorm'), 64, 1e-6);
  await source.fill();

  const rows = tf.randomNormal<tf.Rank.R2>([5, 64], 0, 3, 'float32', 1);
  const normed = norm.apply(rows);
  const projected = linear.apply(normed);
  const size = tf.tidy(() => tf.sqrt(tf.mean(tf.square(normed), 1))); // [5]
  console.log(`RmsNorm then Linear: [${rows.shape}] -> [${projected.shape}]`);
  assert.ok(
    (await size.data()).every((value) => Math.abs(value - 1) < 1e-3),
    'a normed row has root-mean-square 1',
  );
  tf.dispose([rows, normed, projected, size]);
  source.dispose();
}

/** Pixels -> encoder -> VisPruner -> projector. The attention that chooses is a return value of the encoder's block. */
async function imageToTokens(): Promise<void> {
  const source = seedSource(7, float32Factory());
  const encoder = new ClipVision(source.root.at('vision_tower'), vision);
  const projector = new Projector(source.root.at('multi_modal_projector'), vision.hidden_size, text.hidden_size, { activation: 'gelu', bias: true });
  await source.fill();

  const pixels = tf.randomNormal<tf.Rank.R4>([1, 56, 56, 3], 0, 1, 'float32', 2);
  let states = encoder.embed(pixels); // [1 + N, C]
  let attention: tf.Tensor2D | undefined; // [heads, N]
  for (const [k, block] of encoder.blocks.slice(0, 2).entries()) {
    // features come from block 1: block 2 need not run
    const output = block.apply(states, encoder.segments(1), { reads: { class: k === 1 } });
    states.dispose();
    states = output.hiddenStates;
    attention = output.values[0]?.class;
  }
  assert.ok(attention);
  const features = tf.slice(states, [1, 0], [-1, -1]); // [N, C], without the class token
  const kept = await visPruner(features, attention, { tokens: 16, importantRatio: 0.5 });
  const tokens = tf.tidy(() => projector.apply(tf.gather(features, tf.tensor1d(kept, 'int32')))); // [16, D]
  console.log(`ClipVision, VisPruner, Projector: ${features.shape[0]} patches -> [${tokens.shape}], kept ${kept.slice(0, 6).join(', ')}, ...`);
  assert.ok(
    kept.every((index, i) => i === 0 || index > (kept[i - 1] ?? 0)),
    'kept patches are ascending',
  );
  tf.dispose([pixels, states, attention, features, tokens]);
  source.dispose();
}

/** The decoder over five tokens at once, and one by one with its key-value cache: the same. */
async function decoderWithCache(): Promise<void> {
  const source = seedSource(7, float32Factory());
  const llama = new Llama(source.root.at('language_model'), text);
  await source.fill();

  const ids = Int32Array.of(1, 17, 42, 5, 8);
  const pass = (from: number, to: number, caches = llama.newCaches()): tf.Tensor2D => {
    const positions = Int32Array.from({ length: to - from }, (_, i) => from + i);
    const rotary = llama.rotary.table(positions);
    const mask = to - from > 1 ? causalMask(to - from, to) : undefined; // one query sees all that is held
    const segments = [{ start: 0, length: to - from }];
    let states = llama.embed(ids.slice(from, to));
    for (const [k, block] of llama.blocks.entries()) {
      const next = block.apply(states, { segments, rotary, masks: [mask], positions }, caches.slice(k, k + 1));
      states.dispose();
      states = next;
    }
    tf.dispose([rotary.cos, rotary.sin, ...(mask ? [mask] : [])]);
    const logits = llama.logits(states);
    states.dispose();
    return logits; // [to - from, vocabulary]
  };

  const caches = [llama.newCaches(), llama.newCaches()];
  const together = pass(0, ids.length, caches[0]);
  const single = Array.from(ids, (_, i) => pass(i, i + 1, caches[1]));
  const stacked = tf.concat(single, 0);
  const difference = await largestDifference(together, stacked);
  console.log(`Llama: logits [${together.shape}], with and without a cache they differ by ${difference.toExponential(1)} at most`);
  assert.ok(difference < 1e-4, 'a cache changes nothing');
  for (const cache of caches.flat()) cache.dispose();
  tf.dispose([together, stacked, ...single]);
  source.dispose();
}

/** All of it as one model, from a configuration as config.json holds it. */
async function wholeModel(): Promise<void> {
  const model = await buildModel(
    {
      model_type: 'llava',
      image_token_index: IMAGE_TOKEN,
      vision_feature_layer: -2,
      vision_config: vision,
      text_config: { ...text, model_type: 'llama' },
    },
    { seed: 7 },
  );
  const pixelValues = tf.randomNormal<tf.Rank.R4>([1, 56, 56, 3], 0, 1, 'float32', 2);
  const request = {
    inputIds: [1, 17, IMAGE_TOKEN, 42, 5],
    images: [{ pixelValues, originalSize: { width: 56, height: 56 }, grid: { rows: 8, columns: 8 } }],
  };

  const all = await model.forward(request);
  const keepAll = await model.forward(request, { prune: { method: 'vispruner', tokens: 64 } });
  const pruned = await model.forward(request, { prune: { method: 'vispruner', tokens: 16 } });
  const written = await model.generate(request, { prune: { method: 'vispruner', tokens: 16 }, maxNewTokens: 5 });
  console.log(`The whole model: logits [${all.logits.shape}] with all tokens, [${pruned.logits.shape}] with 16; it writes ${written.ids.join(' ')}`);
  assert.equal(await largestDifference(all.logits, keepAll.logits), 0, 'keeping all is not pruning');
  tf.dispose([pixelValues, all.logits, keepAll.logits, pruned.logits]);
  model.dispose();
}

async function main(): Promise<void> {
  console.log(`Backend: ${await useBackend('wasm')}`);
  const before = tf.memory().numTensors;
  for (const step of [smallLayers, imageToTokens, decoderWithCache, wholeModel]) await step();
  assert.equal(tf.memory().numTensors, before, 'no tensor is left');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
