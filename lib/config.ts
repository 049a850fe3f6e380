import { z } from 'zod';
import { ACTIVATION_NAMES } from '../layers/activation';
import type { ClipVisionShape } from '../layers/clip_vision';
import { ConfigError } from '../layers/errors';
import type { LlamaShape } from '../layers/llama';
import { count, parseFields, tokenIds } from './config/fields';
import { parseRope } from './config/rope';

export type { RopeParameters } from '../layers/rotary';
export { type GenerationConfig, parseGenerationConfig } from './config/generation';

/** `vision_config` of a checkpoint (transformers' CLIPVisionConfig), square images and patches. */
export interface ClipVisionConfig extends ClipVisionShape {
  readonly model_type: 'clip_vision_model';
  readonly projection_dim: number;
}

/** `text_config` of a checkpoint (transformers' LlamaConfig). */
export interface LlamaConfig extends LlamaShape {
  readonly model_type: 'llama';
  readonly max_position_embeddings: number;
  readonly bos_token_id: number | null;
  /** One id in the file becomes a list of one. */
  readonly eos_token_id: readonly number[];
  readonly pad_token_id: number | null;
}

/** config.json of LLaVA (transformers' LlavaConfig). */
export interface VisionLanguageConfig {
  readonly model_type: 'llava';
  readonly text_config: LlamaConfig;
  readonly vision_config: ClipVisionConfig;
  readonly image_token_index: number;
  readonly image_seq_length: number;
  readonly projector_hidden_act: string;
  readonly multimodal_projector_bias: boolean;
  /** Index into the encoder's hidden states, of which the first are the embeddings; negative ones count from the end. */
  readonly vision_feature_layer: number;
  /** `default` leaves the class token out, `full` keeps it. */
  readonly vision_feature_select_strategy: 'default' | 'full';
}

/** A Llama checkpoint alone: the model has no vision. */
export interface LanguageConfig {
  readonly model_type: 'llama';
  readonly text_config: LlamaConfig;
}

export type ModelConfig = VisionLanguageConfig | LanguageConfig;

const headFields = z.object({
  model_type: z.string().nullish(),
  mm_vision_tower: z.unknown().optional(),
  quantization_config: z.unknown().optional(),
});

// Layers are made before the weights are looked at, and tables with them: a number from a damaged file must not fill the memory.
const blocks = z.int().min(1).max(1024);
const dimension = z
  .int()
  .min(1)
  .max(2 ** 20);

const llamaFields = z.object({
  model_type: z.string().nullish(),
  vocab_size: count.nullish(),
  hidden_size: dimension.nullish(),
  intermediate_size: dimension.nullish(),
  num_hidden_layers: blocks.nullish(),
  num_attention_heads: dimension.nullish(),
  num_key_value_heads: dimension.nullish(),
  head_dim: dimension.nullish(),
  rms_norm_eps: z.number().positive().nullish(),
  hidden_act: z.string().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  max_position_embeddings: count.nullish(),
  bos_token_id: z.int().min(0).nullable().optional(),
  eos_token_id: tokenIds.nullable().optional(),
  pad_token_id: z.int().nullish(),
});

const side = z.union([dimension, z.tuple([dimension, dimension])]).nullish();

const visionFields = z.object({
  model_type: z.string().nullish(),
  hidden_size: dimension.nullish(),
  intermediate_size: dimension.nullish(),
  num_hidden_layers: blocks.nullish(),
  num_attention_heads: dimension.nullish(),
  num_channels: count.nullish(),
  image_size: side,
  patch_size: side,
  layer_norm_eps: z.number().positive().nullish(),
  hidden_act: z.string().nullish(),
  projection_dim: dimension.nullish(),
});

const llavaFields = z.object({
  text_config: z.record(z.string(), z.unknown()).nullish(),
  vision_config: z.record(z.string(), z.unknown()).nullish(),
  image_token_index: z.int().min(0).nullish(),
  image_token_id: z.int().min(0).nullish(),
  image_seq_length: count.nullish(),
  projector_hidden_act: z.string().nullish(),
  multimodal_projector_bias: z.boolean().nullish(),
  vision_feature_layer: z.union([z.int(), z.array(z.int())]).nullish(),
  vision_feature_select_strategy: z.enum(['default', 'full']).nullish(),
  tie_word_embeddings: z.boolean().nullish(),
});

/** What LlavaConfig puts where a file has no `vision_config` at all: the tower of LLaVA-1.5. */
const LLAVA_TOWER = {
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  image_size: 336,
  patch_size: 14,
  projection_dim: 768,
};

/**
 * Reads config.json, with transformers' defaults where it is silent, and refuses what contradicts itself. What it returns can be parsed again.
 *
 * @param json the parsed file, or such an object written in code
 * @param file how messages call it
 * @throws ConfigError `CONFIG_FIELD` (a field of the wrong form), `UNSUPPORTED_MODEL`, `UNSUPPORTED_CONFIG`, `UNKNOWN_ACTIVATION`, `UNSUPPORTED_ROPE`,
 * `HEADS_DO_NOT_DIVIDE`, `KEY_VALUE_HEADS`, `ODD_HEAD_DIM`, `PATCHES_DO_NOT_DIVIDE`, `FEATURE_LAYER`, `IMAGE_TOKEN_RANGE`
 */
export function parseConfig(json: unknown, file = 'config.json'): ModelConfig {
  const head = parseFields(headFields, json, file, '');
  if (head.quantization_config) {
    throw new ConfigError(
      'UNSUPPORTED_CONFIG',
      `${file}: has a quantization_config; quantised weights can't be read. Use the checkpoint in float32, float16 or bfloat16.`,
    );
  }
  if (head.mm_vision_tower !== undefined) {
    throw new ConfigError(
      'UNSUPPORTED_MODEL',
      `${file}: is of the original LLaVA code (mm_vision_tower), whose vision tower is another checkpoint. Use the same model in transformers' form (llava-hf).`,
    );
  }
  // What was parsed here before has its text_config apart; transformers writes a bare Llama flat.
  const flat = json as Readonly<Record<string, unknown>>;
  if (head.model_type === 'llama')
    return { model_type: 'llama', text_config: parseLlama(flat.text_config ?? flat, file, flat.text_config ? 'text_config.' : '') };
  if (head.model_type !== 'llava') {
    throw new ConfigError(
      'UNSUPPORTED_MODEL',
      `${file}: model_type is ${JSON.stringify(head.model_type ?? null)}; supported are "llava" and "llama". Use a checkpoint of one of these.`,
    );
  }
  return parseLlava(json, file);
}

function parseLlava(json: unknown, file: string): VisionLanguageConfig {
  const fields = parseFields(llavaFields, json, file, '');
  const text = parseLlama(fields.text_config ?? {}, file, 'text_config.');
  const vision = parseVision(fields.vision_config ?? LLAVA_TOWER, file);
  const config: VisionLanguageConfig = {
    model_type: 'llava',
    // Either place ties the head, as in transformers.
    text_config: { ...text, tie_word_embeddings: text.tie_word_embeddings || (fields.tie_word_embeddings ?? false) },
    vision_config: vision,
    image_token_index: fields.image_token_index ?? fields.image_token_id ?? 32000,
    image_seq_length: fields.image_seq_length ?? 576,
    projector_hidden_act: knownActivation(fields.projector_hidden_act ?? 'gelu', file, 'projector_hidden_act'),
    multimodal_projector_bias: fields.multimodal_projector_bias ?? true,
    vision_feature_layer: featureLayer(fields.vision_feature_layer ?? -2, vision.num_hidden_layers, file),
    vision_feature_select_strategy: fields.vision_feature_select_strategy ?? 'default',
  };
  if (config.image_token_index >= text.vocab_size) {
    throw new ConfigError(
      'IMAGE_TOKEN_RANGE',
      `${file}: image_token_index is ${config.image_token_index}, but text_config.vocab_size is ${text.vocab_size}: the token does not exist. Correct one of them.`,
    );
  }
  return config;
}

function parseLlama(json: unknown, file: string, prefix: string): LlamaConfig {
  const fields = parseFields(llamaFields, json, file, prefix);
  if ((fields.model_type ?? 'llama') !== 'llama') {
    throw new ConfigError(
      'UNSUPPORTED_MODEL',
      `${file}: ${prefix}model_type is "${fields.model_type}"; the supported decoder is "llama". Use a checkpoint with it.`,
    );
  }
  const heads = fields.num_attention_heads ?? 32;
  const width = fields.hidden_size ?? 4096;
  headsDivide(width, heads, file, prefix);
  const keyValueHeads = fields.num_key_value_heads ?? heads;
  if (heads % keyValueHeads !== 0) {
    throw new ConfigError(
      'KEY_VALUE_HEADS',
      `${file}: ${prefix}num_key_value_heads (${keyValueHeads}) does not divide num_attention_heads (${heads}): query heads can't share keys evenly. Correct one of them.`,
    );
  }
  const headDim = fields.head_dim ?? width / heads;
  if (headDim % 2 !== 0) {
    throw new ConfigError(
      'ODD_HEAD_DIM',
      `${file}: ${prefix}head_dim is ${headDim}; the rotary embedding turns pairs of dimensions and needs an even one. Correct it, or hidden_size and the heads.`,
    );
  }
  const context = fields.max_position_embeddings ?? 2048;
  return {
    model_type: 'llama',
    vocab_size: fields.vocab_size ?? 32000,
    hidden_size: width,
    intermediate_size: fields.intermediate_size ?? 11008,
    num_hidden_layers: fields.num_hidden_layers ?? 32,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    head_dim: headDim,
    hidden_act: knownActivation(fields.hidden_act ?? 'silu', file, `${prefix}hidden_act`),
    max_position_embeddings: context,
    rms_norm_eps: fields.rms_norm_eps ?? 1e-6,
    rope_parameters: parseRope(json, context, file, prefix),
    attention_bias: fields.attention_bias ?? false,
    mlp_bias: fields.mlp_bias ?? false,
    tie_word_embeddings: fields.tie_word_embeddings ?? false,
    bos_token_id: fields.bos_token_id === undefined ? 1 : fields.bos_token_id,
    eos_token_id: fields.eos_token_id === undefined ? [2] : (fields.eos_token_id ?? []),
    pad_token_id: fields.pad_token_id ?? null,
  };
}

function parseVision(json: unknown, file: string): ClipVisionConfig {
  const fields = parseFields(visionFields, json, file, 'vision_config.');
  if ((fields.model_type ?? 'clip_vision_model') !== 'clip_vision_model') {
    throw new ConfigError(
      'UNSUPPORTED_MODEL',
      `${file}: vision_config.model_type is "${fields.model_type}"; the supported encoder is "clip_vision_model". Use a checkpoint with it.`,
    );
  }
  const heads = fields.num_attention_heads ?? 12;
  const width = fields.hidden_size ?? 768;
  headsDivide(width, heads, file, 'vision_config.');
  const channels = fields.num_channels ?? 3;
  if (channels !== 3) {
    throw new ConfigError(
      'UNSUPPORTED_CONFIG',
      `${file}: vision_config.num_channels is ${channels}; images are read as red, green and blue. Use another checkpoint.`,
    );
  }
  const image = squareSide(fields.image_size ?? 224, 'image_size', file);
  const patch = squareSide(fields.patch_size ?? 32, 'patch_size', file);
  if (image % patch !== 0) {
    throw new ConfigError(
      'PATCHES_DO_NOT_DIVIDE',
      `${file}: vision_config.image_size (${image}) is not a multiple of patch_size (${patch}): pixels at the edge would belong to no patch. Correct one of them.`,
    );
  }
  return {
    model_type: 'clip_vision_model',
    hidden_size: width,
    intermediate_size: fields.intermediate_size ?? 3072,
    num_hidden_layers: fields.num_hidden_layers ?? 12,
    num_attention_heads: heads,
    num_channels: channels,
    image_size: image,
    patch_size: patch,
    layer_norm_eps: fields.layer_norm_eps ?? 1e-5,
    hidden_act: knownActivation(fields.hidden_act ?? 'quick_gelu', file, 'vision_config.hidden_act'),
    projection_dim: fields.projection_dim ?? 512,
  };
}

function headsDivide(width: number, heads: number, file: string, prefix: string): void {
  if (width % heads === 0) return;
  throw new ConfigError(
    'HEADS_DO_NOT_DIVIDE',
    `${file}: ${prefix}hidden_size (${width}) is not a multiple of ${prefix}num_attention_heads (${heads}). Correct one of them.`,
  );
}

function knownActivation(name: string, file: string, field: string): string {
  if (ACTIVATION_NAMES.includes(name)) return name;
  throw new ConfigError(
    'UNKNOWN_ACTIVATION',
    `${file}: ${field} is "${name}". Known: ${ACTIVATION_NAMES.join(', ')}. Use a checkpoint with one of these.`,
  );
}

function squareSide(size: number | readonly [number, number], field: string, file: string): number {
  const [height, width] = typeof size === 'number' ? [size, size] : size;
  if (height === width) return height;
  throw new ConfigError(
    'UNSUPPORTED_CONFIG',
    `${file}: vision_config.${field} is [${height}, ${width}]; only square ones are supported. Use another checkpoint.`,
  );
}

function featureLayer(layer: number | readonly number[], blocks: number, file: string): number {
  if (typeof layer !== 'number') {
    throw new ConfigError(
      'UNSUPPORTED_CONFIG',
      `${file}: vision_feature_layer is [${layer.join(', ')}]; features of several layers are not supported. Use another checkpoint.`,
    );
  }
  if (layer >= -blocks - 1 && layer <= blocks) return layer;
  throw new ConfigError(
    'FEATURE_LAYER',
    `${file}: vision_feature_layer is ${layer}, but the encoder has ${blocks} blocks: it must lie between ${-blocks - 1} and ${blocks} (0 is the embeddings). Correct it.`,
  );
}
