import * as tf from '@tensorflow/tfjs';
import { type ModelConfig, parseConfig } from '../../../lib/config';
import type { PreparedImage } from '../../../lib/image/types';
import { Llava } from '../../../lib/llava';
import { Random } from '../../../lib/random';
import { HeldParameters } from '../../support/held_parameters';

const [SIDE, PATCH] = [6, 4];

export const IMAGE_TOKEN = 39;

/** 36 patches, an encoder of 5 blocks, a decoder of 8 with grouped queries: deep enough that methods made for 32 blocks differ from one another. */
export const LAW_CONFIG: ModelConfig = parseConfig(
  {
    model_type: 'llava',
    image_token_index: IMAGE_TOKEN,
    vision_feature_layer: -2,
    vision_feature_select_strategy: 'default',
    projector_hidden_act: 'gelu',
    vision_config: {
      model_type: 'clip_vision_model',
      hidden_size: 32,
      intermediate_size: 48,
      num_hidden_layers: 5,
      num_attention_heads: 4,
      image_size: SIDE * PATCH,
      patch_size: PATCH,
      hidden_act: 'quick_gelu',
    },
    text_config: {
      model_type: 'llama',
      vocab_size: 40,
      hidden_size: 24,
      intermediate_size: 40,
      num_hidden_layers: 8,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      max_position_embeddings: 512,
      rms_norm_eps: 1e-5,
      tie_word_embeddings: false,
    },
  },
  'law model',
);

/** Seeded weights, scaled by fan-in; queries and keys larger, so that attention prefers some tokens clearly. */
export function lawModel(seed: number): { readonly llava: Llava; dispose(): void } {
  const root = new HeldParameters((name) => {
    const shape = shapeOf(name);
    const count = shape.reduce((product, size) => product * size, 1);
    return { shape, values: valuesOf(name, shape, count, seed) };
  });
  return { llava: new Llava(LAW_CONFIG, root), dispose: () => root.dispose() };
}

function valuesOf(name: string, shape: readonly number[], count: number, seed: number): Float32Array {
  const random = new Random(seed, hash(name));
  if (/norm.*weight$|layrnorm.*weight$/.test(name)) return Float32Array.from({ length: count }, () => 1 + 0.1 * gaussian(random));
  if (name.endsWith('bias')) return Float32Array.from({ length: count }, () => 0.1 * gaussian(random));
  const scale = (/[qk]_proj/.test(name) ? 2 : 1) / Math.sqrt(/embed/.test(name) ? 1 : (shape.at(-1) ?? 1));
  return Float32Array.from({ length: count }, () => scale * gaussian(random));
}

function shapeOf(name: string): readonly number[] {
  const { vision_config: vision, text_config: text } = LAW_CONFIG as Extract<typeof LAW_CONFIG, { model_type: 'llava' }>;
  const [c, d, inner] = [vision.hidden_size, text.hidden_size, text.intermediate_size];
  const keyWidth = text.num_key_value_heads * text.head_dim;
  const table: readonly (readonly [RegExp, readonly number[]])[] = [
    [/class_embedding$/, [c]],
    [/patch_embedding\.weight$/, [c, 3 * PATCH * PATCH]],
    [/position_embedding\.weight$/, [1 + SIDE * SIDE, c]],
    [/vision_tower.*fc1\.weight$/, [vision.intermediate_size, c]],
    [/vision_tower.*fc1\.bias$/, [vision.intermediate_size]],
    [/vision_tower.*fc2\.weight$/, [c, vision.intermediate_size]],
    [/vision_tower.*proj\.weight$/, [c, c]],
    [/vision_tower/, [c]],
    [/linear_1\.weight$/, [d, c]],
    [/linear_2\.weight$/, [d, d]],
    [/linear_[12]\.bias$/, [d]],
    [/embed_tokens|lm_head/, [text.vocab_size, d]],
    [/[kv]_proj\.weight$/, [keyWidth, d]],
    [/(q|o)_proj\.weight$/, [d, d]],
    [/(gate|up)_proj\.weight$/, [inner, d]],
    [/down_proj\.weight$/, [d, inner]],
    [/norm/, [d]],
  ];
  const found = table.find(([pattern]) => pattern.test(name));
  if (!found) throw new Error(`The law model has no shape for ${name}.`);
  return found[1];
}

/** An image of noise over a gradient, `crops` of it. */
export function lawImage(seed: number, crops = 1): PreparedImage {
  const random = new Random(seed);
  const side = SIDE * PATCH;
  const values = Float32Array.from({ length: crops * side * side * 3 }, (_, i) => gaussian(random) + Math.sin(i / 50));
  return {
    pixelValues: tf.tensor4d(values, [crops, side, side, 3]),
    originalSize: { width: side, height: side },
    grid: { rows: SIDE, columns: SIDE },
  };
}

function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}

function hash(name: string): number {
  let value = 7;
  for (let i = 0; i < name.length; i++) value = (Math.imul(value, 31) + name.charCodeAt(i)) >>> 0;
  return value;
}
