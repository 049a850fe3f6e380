/** LLaVA-1.5-7B as `llava-hf/llava-1.5-7b-hf` describes itself: CLIP ViT-L/14 at 336 pixels, a projector of two layers, Llama with 32 blocks. */

export const BLOCKS = 32;
export const WIDTH = 4096;
export const INNER = 11008;
export const VOCABULARY = 32064;
export const VISION_WIDTH = 1024;
export const VISION_INNER = 4096;
const VISION_BLOCKS = 24;
/** Blocks that run: the features are those that enter the last one. */
export const VISION_BLOCKS_READ: number = VISION_BLOCKS - 1;
export const IMAGE_SIDE = 336;
const PATCH = 14;
export const PATCHES: number = (IMAGE_SIDE / PATCH) ** 2;
export const IMAGE_TOKEN = 32000;

/** [in, out] of the matrices of a decoder block. */
export const BLOCK_MATRICES: readonly (readonly [number, number])[] = [
  ...Array.from({ length: 4 }, () => [WIDTH, WIDTH] as const),
  [WIDTH, INNER],
  [WIDTH, INNER],
  [INNER, WIDTH],
];

/** [in, out] of the matrices of a block of the vision tower. */
export const VISION_MATRICES: readonly (readonly [number, number])[] = [
  ...Array.from({ length: 4 }, () => [VISION_WIDTH, VISION_WIDTH] as const),
  [VISION_WIDTH, VISION_INNER],
  [VISION_INNER, VISION_WIDTH],
];

/** What its config.json says; with fewer decoder blocks, if so asked. */
export function llava7b(blocks: number, dtype: string): object {
  return {
    architectures: ['LlavaForConditionalGeneration'],
    image_token_index: IMAGE_TOKEN,
    model_type: 'llava',
    pad_token_id: 32001,
    projector_hidden_act: 'gelu',
    text_config: {
      architectures: ['LlamaForCausalLM'],
      hidden_size: WIDTH,
      intermediate_size: INNER,
      max_position_embeddings: 4096,
      model_type: 'llama',
      num_attention_heads: 32,
      num_hidden_layers: blocks,
      num_key_value_heads: 32,
      rms_norm_eps: 1e-5,
      vocab_size: VOCABULARY,
    },
    tie_word_embeddings: false,
    torch_dtype: dtype,
    vision_config: {
      hidden_size: VISION_WIDTH,
      image_size: IMAGE_SIDE,
      intermediate_size: VISION_INNER,
      model_type: 'clip_vision_model',
      num_attention_heads: 16,
      num_hidden_layers: VISION_BLOCKS,
      patch_size: PATCH,
      projection_dim: 768,
      vocab_size: 32000,
    },
    vision_feature_layer: -2,
    vision_feature_select_strategy: 'default',
    vocab_size: VOCABULARY,
  };
}

/** Its tensors in transformers' names, in the order in which they are used. */
export function* tensors7b(blocks: number): Generator<readonly [name: string, shape: readonly number[]]> {
  const tower = 'vision_tower.vision_model';
  yield [`${tower}.embeddings.class_embedding`, [VISION_WIDTH]];
  yield [`${tower}.embeddings.patch_embedding.weight`, [VISION_WIDTH, 3, PATCH, PATCH]];
  yield [`${tower}.embeddings.position_embedding.weight`, [PATCHES + 1, VISION_WIDTH]];
  yield* norm(`${tower}.pre_layrnorm`);
  for (let i = 0; i < VISION_BLOCKS; i++) {
    const block = `${tower}.encoder.layers.${i}`;
    for (const name of ['q', 'k', 'v', 'out']) yield* biased(`${block}.self_attn.${name}_proj`, VISION_WIDTH, VISION_WIDTH);
    yield* norm(`${block}.layer_norm1`);
    yield* biased(`${block}.mlp.fc1`, VISION_INNER, VISION_WIDTH);
    yield* biased(`${block}.mlp.fc2`, VISION_WIDTH, VISION_INNER);
    yield* norm(`${block}.layer_norm2`);
  }
  yield* norm(`${tower}.post_layernorm`);
  yield* biased('multi_modal_projector.linear_1', WIDTH, VISION_WIDTH);
  yield* biased('multi_modal_projector.linear_2', WIDTH, WIDTH);
  yield ['language_model.model.embed_tokens.weight', [VOCABULARY, WIDTH]];
  for (let i = 0; i < blocks; i++) {
    const block = `language_model.model.layers.${i}`;
    for (const name of ['q', 'k', 'v', 'o']) yield [`${block}.self_attn.${name}_proj.weight`, [WIDTH, WIDTH]];
    for (const name of ['gate', 'up']) yield [`${block}.mlp.${name}_proj.weight`, [INNER, WIDTH]];
    yield [`${block}.mlp.down_proj.weight`, [WIDTH, INNER]];
    yield [`${block}.input_layernorm.weight`, [WIDTH]];
    yield [`${block}.post_attention_layernorm.weight`, [WIDTH]];
  }
  yield ['language_model.model.norm.weight', [WIDTH]];
  yield ['language_model.lm_head.weight', [VOCABULARY, WIDTH]];
}

function* norm(name: string): Generator<readonly [string, readonly number[]]> {
  yield [`${name}.weight`, [VISION_WIDTH]];
  yield [`${name}.bias`, [VISION_WIDTH]];
}

function* biased(name: string, outDim: number, inDim: number): Generator<readonly [string, readonly number[]]> {
  yield [`${name}.weight`, [outDim, inDim]];
  yield [`${name}.bias`, [outDim]];
}
