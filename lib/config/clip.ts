import { z } from 'zod';
import { ACTIVATION_NAMES } from '../../layers/activation';
import type { ClipTextShape } from '../../layers/clip_text';
import { ConfigError } from '../../layers/errors';
import { count, parseFields } from './fields';

/** What `Clip` needs of a CLIP checkpoint's config.json (transformers' CLIPConfig): all of the text half, of the image half what lies behind its blocks. */
export interface ClipConfig {
  readonly text_config: ClipTextShape;
  readonly vision_config: { readonly hidden_size: number; readonly layer_norm_eps: number };
  readonly projection_dim: number;
}

// As in lib/config.ts: a number from a damaged file must not fill the memory.
const blocks = z.int().min(1).max(1024);
const dimension = z
  .int()
  .min(1)
  .max(2 ** 20);

const clipFields = z.object({
  model_type: z.string().nullish(),
  text_config: z.record(z.string(), z.unknown()).nullish(),
  vision_config: z.record(z.string(), z.unknown()).nullish(),
  projection_dim: dimension.nullish(),
});

const textFields = z.object({
  vocab_size: count.nullish(),
  hidden_size: dimension.nullish(),
  intermediate_size: dimension.nullish(),
  num_hidden_layers: blocks.nullish(),
  num_attention_heads: dimension.nullish(),
  max_position_embeddings: dimension.nullish(),
  layer_norm_eps: z.number().positive().nullish(),
  hidden_act: z.string().nullish(),
  eos_token_id: z.int().min(0).nullish(),
});

const visionFields = z.object({
  hidden_size: dimension.nullish(),
  layer_norm_eps: z.number().positive().nullish(),
});

/**
 * Reads a CLIP's config.json, with transformers' defaults where it is silent.
 *
 * @param file how messages call it
 * @throws ConfigError `CONFIG_FIELD`, `UNSUPPORTED_MODEL`, `UNKNOWN_ACTIVATION`, `HEADS_DO_NOT_DIVIDE`
 */
export function parseClipConfig(json: unknown, file: string): ClipConfig {
  const fields = parseFields(clipFields, json, file, '');
  if (fields.model_type !== 'clip') {
    throw new ConfigError(
      'UNSUPPORTED_MODEL',
      `${file}: model_type is ${JSON.stringify(fields.model_type ?? null)}; a text encoder is read from "clip". Use a CLIP checkpoint with both halves.`,
    );
  }
  const text = parseFields(textFields, fields.text_config ?? {}, file, 'text_config.');
  const vision = parseFields(visionFields, fields.vision_config ?? {}, file, 'vision_config.');
  const [width, heads, activation] = [text.hidden_size ?? 512, text.num_attention_heads ?? 8, text.hidden_act ?? 'quick_gelu'];
  if (width % heads !== 0) {
    throw new ConfigError(
      'HEADS_DO_NOT_DIVIDE',
      `${file}: text_config.hidden_size (${width}) is not a multiple of text_config.num_attention_heads (${heads}). Correct one of them.`,
    );
  }
  if (!ACTIVATION_NAMES.includes(activation)) {
    throw new ConfigError(
      'UNKNOWN_ACTIVATION',
      `${file}: text_config.hidden_act is "${activation}". Known: ${ACTIVATION_NAMES.join(', ')}. Use a checkpoint with one of these.`,
    );
  }
  return {
    text_config: {
      vocab_size: text.vocab_size ?? 49408,
      hidden_size: width,
      intermediate_size: text.intermediate_size ?? 2048,
      num_hidden_layers: text.num_hidden_layers ?? 12,
      num_attention_heads: heads,
      max_position_embeddings: text.max_position_embeddings ?? 77,
      layer_norm_eps: text.layer_norm_eps ?? 1e-5,
      hidden_act: activation,
      eos_token_id: text.eos_token_id ?? 49407,
    },
    vision_config: { hidden_size: vision.hidden_size ?? 768, layer_norm_eps: vision.layer_norm_eps ?? 1e-5 },
    projection_dim: fields.projection_dim ?? 512,
  };
}
