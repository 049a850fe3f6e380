import type { ClipVisionShape } from '../../layers/clip_vision';
import type { LlamaShape } from '../../layers/llama';
import { GRID_SIDE, PATCH_SIZE, SCENE_SIZE } from '../scenes/constants';
import { VOCABULARY } from '../scenes/tokenizer';
import type { Initial, InitialRules } from './variables';

/** The shipped model: a CLIP-style encoder, LLaVA-1.5's projector, a small Llama. */
export const WIDTH = 128;

export const VISION_SHAPE: ClipVisionShape = {
  hidden_size: WIDTH,
  intermediate_size: 512,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_channels: 3,
  image_size: SCENE_SIZE,
  patch_size: PATCH_SIZE,
  layer_norm_eps: 1e-5,
  hidden_act: 'quick_gelu',
};

/** `vision_feature_layer: -2`: the block before the last, 0-based. */
export const FEATURE_BLOCK: number = VISION_SHAPE.num_hidden_layers - 2;

export const TEXT_SHAPE: LlamaShape = {
  vocab_size: VOCABULARY.length,
  hidden_size: WIDTH,
  intermediate_size: 344,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  head_dim: 32,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: false,
  rope_parameters: { rope_type: 'default', rope_theta: 10000 },
};

/** Blocks of the deep decoder: half of LLaVA-1.5's, so that a method which leaves one block whole has 6.25% of the tokens' cost as its least, as two of 32 have. */
export const DEEP_BLOCKS = 16;

/** Names under which the parts lie in a checkpoint. */
export const VISION_PATH = 'vision_tower.vision_model';
export const PROJECTOR_PATH = 'multi_modal_projector';
export const LANGUAGE_PATH = 'language_model';

const LONGEST_WAVE = 2 * GRID_SIDE;

/**
 * The position table starts with the sines and cosines of row and column beside small noise: learned from noise alone, positions never
 * entered the features. 32 sines and 32 cosines of the row, the same of the column; wavelengths from 2 pi to 2 pi * 16 patches.
 */
function visiblePositions(shape: readonly number[]): Float32Array {
  const [rows, width] = shape as [number, number];
  const table = new Float32Array(rows * width);
  const quarter = width / 4;
  for (let patch = 0; patch < rows - 1; patch++) {
    for (let i = 0; i < quarter; i++) {
      const frequency = (LONGEST_WAVE / 2) ** (-i / (quarter - 1));
      const at = (patch + 1) * width + i;
      const row = Math.floor(patch / GRID_SIDE) * frequency;
      const column = (patch % GRID_SIDE) * frequency;
      table[at] = 0.4 * Math.sin(row);
      table[at + quarter] = 0.4 * Math.cos(row);
      table[at + 2 * quarter] = 0.4 * Math.sin(column);
      table[at + 3 * quarter] = 0.4 * Math.cos(column);
    }
  }
  return table;
}

const normal = (deviation: number): Initial => ({ deviation });
const root = Math.sqrt(WIDTH);

export const VISION_INITIAL: InitialRules = [
  [/norm\d?\.weight$|layrnorm\.weight$/, { value: 1 }],
  [/bias$/, { value: 0 }],
  [/class_embedding$/, normal(0.1)],
  [/patch_embedding\.weight$/, normal(0.1)],
  [/position_embedding\.weight$/, { values: visiblePositions }],
  [/(q|k|v)_proj\.weight$|fc1\.weight$/, normal(0.6 / root)],
  [/out_proj\.weight$/, normal(1 / Math.sqrt(WIDTH * 12))],
  [/fc2\.weight$/, normal(0.5 / Math.sqrt(WIDTH * 12))],
  [/^heads\..*weight$/, normal(0.3 / root)],
];

export const DECODER_INITIAL: InitialRules = [
  [/norm\.weight$/, { value: 1 }],
  [/bias$/, { value: 0 }],
  [/embed_tokens\.weight$/, normal(0.3)],
  [/lm_head\.weight$/, normal(0.3 / root)],
  [/(q|k|v|gate|up)_proj\.weight$/, normal(0.6 / root)],
  [/o_proj\.weight$/, normal(0.3 / root)],
  [/down_proj\.weight$/, normal(0.3 / Math.sqrt(TEXT_SHAPE.intermediate_size))],
  [/linear_\d\.weight$/, normal(1 / root)],
  [/^symbolic\./, normal(0.3)],
];
