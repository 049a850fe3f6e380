import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../../layers/errors';
import { parseConfig, parseGenerationConfig, type VisionLanguageConfig } from '../../lib/config';

const fixture = (...path: string[]): unknown => JSON.parse(readFileSync(join(__dirname, '..', 'fixtures', ...path), 'utf8'));

const tiny = {
  model_type: 'llava',
  image_token_index: 90,
  text_config: { model_type: 'llama', vocab_size: 96, hidden_size: 64, intermediate_size: 112, num_hidden_layers: 3, num_attention_heads: 4 },
  vision_config: { hidden_size: 48, intermediate_size: 96, num_hidden_layers: 3, num_attention_heads: 4, image_size: 56, patch_size: 14 },
};
const withText = (fields: object): unknown => ({ ...tiny, text_config: { ...tiny.text_config, ...fields } });
const withVision = (fields: object): unknown => ({ ...tiny, vision_config: { ...tiny.vision_config, ...fields } });
const llava = (json: unknown): VisionLanguageConfig => parseConfig(json) as VisionLanguageConfig;

function problem(json: unknown): string {
  try {
    parseConfig(json);
  } catch (error) {
    if (error instanceof ConfigError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

it('reads what transformers 5 writes, and its own result again', () => {
  const config = llava(fixture('tiny-llava-hf', 'config.json'));
  expect(config.text_config).toMatchObject({
    head_dim: 16,
    rms_norm_eps: 1e-6,
    eos_token_id: [2],
    rope_parameters: { rope_type: 'default', rope_theta: 10000 },
  });
  expect(config.vision_config).toMatchObject({ hidden_size: 48, hidden_act: 'quick_gelu', projection_dim: 32 });
  expect(config).toMatchObject({
    image_token_index: 90,
    vision_feature_layer: -2,
    vision_feature_select_strategy: 'default',
    multimodal_projector_bias: true,
  });
  expect(parseConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  const language = parseConfig(tiny.text_config);
  expect(parseConfig(JSON.parse(JSON.stringify(language)))).toEqual(language);
});

it('reads the same positions from all spellings of one model', () => {
  const spellings = ['older', 'newer', 'mixed'].map((layout) => llava(fixture('layouts', layout, 'config.json')).text_config);
  for (const text of spellings) expect(text.rope_parameters).toEqual({ rope_type: 'linear', rope_theta: 20000, factor: 2 });
});

it("fills in transformers' defaults where the file is silent", () => {
  // LlavaConfig(), LlamaConfig() of transformers 5.18; its vocabulary of 32000 has no image token 32000, so one is given
  const config = llava({ model_type: 'llava', text_config: { vocab_size: 32064 } });
  expect(config).toEqual({
    model_type: 'llava',
    image_token_index: 32000,
    image_seq_length: 576,
    projector_hidden_act: 'gelu',
    multimodal_projector_bias: true,
    vision_feature_layer: -2,
    vision_feature_select_strategy: 'default',
    vision_config: {
      model_type: 'clip_vision_model',
      hidden_size: 1024,
      intermediate_size: 4096,
      num_hidden_layers: 24,
      num_attention_heads: 16,
      num_channels: 3,
      image_size: 336,
      patch_size: 14,
      layer_norm_eps: 1e-5,
      hidden_act: 'quick_gelu',
      projection_dim: 768,
    },
    text_config: {
      model_type: 'llama',
      vocab_size: 32064,
      hidden_size: 4096,
      intermediate_size: 11008,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 32,
      head_dim: 128,
      hidden_act: 'silu',
      max_position_embeddings: 2048,
      rms_norm_eps: 1e-6,
      rope_parameters: { rope_type: 'default', rope_theta: 10000 },
      attention_bias: false,
      mlp_bias: false,
      tie_word_embeddings: false,
      bos_token_id: 1,
      eos_token_id: [2],
      pad_token_id: null,
    },
  });
  // CLIPVisionConfig(): a vision_config that is there, but says little, has other defaults than one that is absent
  expect(llava(withText({})).vision_config.layer_norm_eps).toBe(1e-5);
  expect(llava({ ...tiny, vision_config: { model_type: 'clip_vision_model' } }).vision_config).toMatchObject({
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    image_size: 224,
    patch_size: 32,
    projection_dim: 512,
  });
});

it('reads a bare Llama as a model without vision', () => {
  const config = parseConfig({
    model_type: 'llama',
    hidden_size: 64,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    tie_word_embeddings: true,
    eos_token_id: [2, 7],
    bos_token_id: null,
  });
  expect(config.model_type).toBe('llama');
  expect(config.text_config).toMatchObject({
    head_dim: 8,
    num_key_value_heads: 4,
    tie_word_embeddings: true,
    eos_token_id: [2, 7],
    bos_token_id: null,
  });
});

it('ties the head when either place says so', () => {
  expect(llava({ ...tiny, tie_word_embeddings: true }).text_config.tie_word_embeddings).toBe(true);
  expect(llava({ ...(withText({ tie_word_embeddings: true }) as object), tie_word_embeddings: false }).text_config.tie_word_embeddings).toBe(true);
});

describe('rope', () => {
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 };

  it.each([
    [{ rope_theta: 5e5 }, { rope_type: 'default', rope_theta: 5e5 }],
    [
      { rope_scaling: null, rope_theta: 5e5 },
      { rope_type: 'default', rope_theta: 5e5 },
    ],
    [{ rope_scaling: { type: 'linear', factor: 4 } }, { rope_type: 'linear', rope_theta: 10000, factor: 4 }],
    [
      { rope_parameters: { ...llama3, rope_theta: 5e5, original_max_position_embeddings: 64 } },
      { ...llama3, rope_theta: 5e5, original_max_position_embeddings: 64 },
    ],
    [
      { rope_scaling: llama3, rope_theta: 5e5, max_position_embeddings: 512 },
      { ...llama3, rope_theta: 5e5, original_max_position_embeddings: 512 },
    ],
  ])('%j', (fields, expected) => {
    expect(llava(withText(fields)).text_config.rope_parameters).toEqual(expected);
  });

  it.each([
    [{ rope_scaling: { type: 'dynamic', factor: 2 } }, 'UNSUPPORTED_ROPE: config.json: text_config.rope_scaling is of type "dynamic"'],
    [{ rope_parameters: { rope_type: 'yarn', factor: 2 } }, 'UNSUPPORTED_ROPE: config.json: text_config.rope_parameters is of type "yarn"'],
    [{ rope_scaling: { type: 'linear' } }, 'CONFIG_FIELD: config.json: text_config.rope_scaling is of type "linear" and has no "factor"'],
    [{ rope_scaling: { ...llama3, high_freq_factor: 1 } }, 'CONFIG_FIELD'],
    [{ partial_rotary_factor: 0.5 }, 'UNSUPPORTED_ROPE'],
  ])('refuses %j', (fields, expected) => {
    expect(problem(withText(fields))).toContain(expected);
  });
});

describe('a contradiction is named', () => {
  it.each([
    ['heads that do not divide the decoder', withText({ hidden_size: 66 }), 'HEADS_DO_NOT_DIVIDE: config.json: text_config.hidden_size (66)'],
    [
      'heads that do not divide the encoder',
      withVision({ num_attention_heads: 5 }),
      'HEADS_DO_NOT_DIVIDE: config.json: vision_config.hidden_size (48)',
    ],
    ['patches that do not divide the image', withVision({ image_size: 60 }), 'PATCHES_DO_NOT_DIVIDE'],
    ['key-value heads that do not divide the heads', withText({ num_key_value_heads: 3 }), 'KEY_VALUE_HEADS'],
    ['an odd head', withText({ head_dim: 15 }), 'ODD_HEAD_DIM'],
    ['a feature layer before the first', { ...tiny, vision_feature_layer: -5 }, 'FEATURE_LAYER: config.json: vision_feature_layer is -5'],
    ['a feature layer behind the last', { ...tiny, vision_feature_layer: 4 }, 'FEATURE_LAYER'],
    ['an unknown activation of the decoder', withText({ hidden_act: 'xielu' }), 'UNKNOWN_ACTIVATION: config.json: text_config.hidden_act is "xielu"'],
    ['an unknown activation of the encoder', withVision({ hidden_act: 'toString' }), 'UNKNOWN_ACTIVATION: config.json: vision_config.hidden_act'],
    ['an unknown activation of the projector', { ...tiny, projector_hidden_act: 'tanhish' }, 'UNKNOWN_ACTIVATION: config.json: projector_hidden_act'],
    [
      'an image token outside of the vocabulary',
      { ...tiny, image_token_index: 96 },
      'IMAGE_TOKEN_RANGE: config.json: image_token_index is 96, but text_config.vocab_size is 96',
    ],
  ])('%s', (_what, json, expected) => {
    expect(problem(json)).toContain(expected);
  });

  it('accepts the outermost feature layers', () => {
    for (const layer of [-4, -1, 0, 3]) expect(llava({ ...tiny, vision_feature_layer: layer }).vision_feature_layer).toBe(layer);
  });
});

describe('what is not supported is named, not misread', () => {
  it.each([
    ['another architecture', { model_type: 'qwen2_vl' }, 'UNSUPPORTED_MODEL: config.json: model_type is "qwen2_vl"'],
    ['no model type', {}, 'UNSUPPORTED_MODEL: config.json: model_type is null'],
    ['the original LLaVA', { model_type: 'llava', mm_vision_tower: 'openai/clip-vit-large-patch14-336' }, 'UNSUPPORTED_MODEL'],
    ['another decoder', withText({ model_type: 'mistral' }), 'text_config.model_type is "mistral"'],
    ['another encoder', withVision({ model_type: 'siglip_vision_model' }), 'vision_config.model_type is "siglip_vision_model"'],
    ['several feature layers', { ...tiny, vision_feature_layer: [-2, -5] }, 'UNSUPPORTED_CONFIG'],
    ['an oblong image', withVision({ image_size: [56, 28] }), 'UNSUPPORTED_CONFIG'],
    ['quantised weights', { ...tiny, quantization_config: { load_in_4bit: true } }, 'UNSUPPORTED_CONFIG'],
    [
      'a field of the wrong form',
      withText({ hidden_size: '64', num_hidden_layers: 1.5 }),
      'CONFIG_FIELD: config.json: text_config.hidden_size is "64"',
    ],
    ['blocks enough to fill the memory', withText({ num_hidden_layers: 1e9 }), 'text_config.num_hidden_layers'],
    ['a width enough to fill the memory', withVision({ hidden_size: 2 ** 31 }), 'vision_config.hidden_size'],
    ['images that are not of three colours', withVision({ num_channels: 4 }), 'UNSUPPORTED_CONFIG: config.json: vision_config.num_channels is 4'],
    ['a list', [], 'CONFIG_FIELD'],
    ['null', null, 'CONFIG_FIELD'],
  ])('%s', (_what, json, expected) => {
    expect(problem(json)).toContain(expected);
  });
});

it('reads generation_config.json, and leaves out what it does not say', () => {
  expect(parseGenerationConfig(fixture('tiny-llava-hf', 'generation_config.json'))).toEqual({ bos_token_id: 1, eos_token_id: [2] });
  expect(parseGenerationConfig({ eos_token_id: [2, 3], temperature: 0.6, top_p: null })).toEqual({ eos_token_id: [2, 3], temperature: 0.6 });
  expect(() => parseGenerationConfig({ top_p: 2 })).toThrow(ConfigError);
});
