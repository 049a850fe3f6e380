import type { ClipVisionShape } from '../../layers/clip_vision';
import { ConfigError } from '../../layers/errors';
import type { LlamaShape } from '../../layers/llama';

/** What the counting needs of a model's config. */
export interface CountedConfig {
  readonly text_config: Pick<
    LlamaShape,
    'hidden_size' | 'intermediate_size' | 'num_hidden_layers' | 'num_attention_heads' | 'num_key_value_heads' | 'head_dim'
  >;
  /** Absent: a language model alone. */
  readonly vision_config?: Pick<ClipVisionShape, 'hidden_size' | 'intermediate_size' | 'num_hidden_layers' | 'image_size' | 'patch_size'>;
}

export interface CountedWork {
  /** Visual tokens of all crops together: one number for every decoder block, or one a block (a pruner's `enteringTokens`, times crops). */
  readonly visualTokens: number | readonly number[];
  /** Text tokens that count beside them; 0, as in the paper, unless given. */
  readonly textTokens?: number;
  /** Crops that the vision tower encodes; default 1. */
  readonly crops?: number;
  /** Bytes of one cached number; default 2 (float16), as in the paper. */
  readonly cacheBytes?: number;
}

export interface Flops {
  /** Operations of the vision tower and of the decoder's prefill; a multiply and an add are two. */
  readonly vision: number;
  readonly decoder: number;
  readonly total: number;
  /** Of the decoder, by block. */
  readonly blocks: readonly number[];
  /** Keys and values of the counted tokens in all blocks, in bytes. */
  readonly cache: number;
}

/**
 * Work of answering about an image, up to the first token, counted as VisPruner's paper does (https://arxiv.org/abs/2412.01818, efficiency tables):
 * products only, attention as if not causal; the whole vision tower, all its blocks; no projector, embedding or language-model head.
 * A block of n tokens takes 2 (4 n d^2 + 2 n^2 d + 3 n d m) in Llama and 2 (4 n d^2 + 2 n^2 d + 2 n d m) in the tower.
 *
 * Differs from the paper: grouped-query attention counts its narrower keys and values. This library does not run the tower's last block where the
 * features do not need it; the count keeps it.
 *
 * @throws ConfigError `BLOCK_COUNT` (one count a block is needed), `COUNT_INVALID` (negative or NaN)
 *
 * @example
 * const { total, cache } = flops(config, { visualTokens: 64 });
 * const entering = createPruner({ method: 'fastv', tokens: 64 }).enteringTokens(576, 32);
 * const fastV = flops(config, { visualTokens: entering });
 */
export function flops(config: CountedConfig, { visualTokens, textTokens = 0, crops = 1, cacheBytes = 2 }: CountedWork): Flops {
  const { text_config: text, vision_config: tower } = config;
  const counts = typeof visualTokens === 'number' ? new Array<number>(text.num_hidden_layers).fill(visualTokens) : visualTokens;
  checkCounts(counts, textTokens, crops, text.num_hidden_layers);
  const tokens = counts.map((count) => count + textTokens);
  const blocks = tokens.map((count) => decoderBlock(count, text));
  const decoder = blocks.reduce((sum, count) => sum + count, 0);
  const vision = tower ? crops * tower.num_hidden_layers * towerBlock(tower) : 0;
  const perToken = 2 * text.num_key_value_heads * text.head_dim * cacheBytes;
  return { vision, decoder, total: vision + decoder, blocks, cache: tokens.reduce((sum, count) => sum + count * perToken, 0) };
}

function checkCounts(visualTokens: readonly number[], textTokens: number, crops: number, blocks: number): void {
  if (visualTokens.length !== blocks) {
    throw new ConfigError(
      'BLOCK_COUNT',
      `Visual tokens are given for ${visualTokens.length} blocks, but the decoder has ${blocks}. Give one count a block.`,
    );
  }
  const bad = [...visualTokens, textTokens, crops].find((count) => !(count >= 0 && Number.isFinite(count)));
  if (bad !== undefined) throw new ConfigError('COUNT_INVALID', `A count of tokens or crops is ${bad}. Give numbers of 0 or more.`);
}

function decoderBlock(tokens: number, shape: CountedConfig['text_config']): number {
  const queryWidth = shape.num_attention_heads * shape.head_dim;
  const keyWidth = shape.num_key_value_heads * shape.head_dim;
  const projections = tokens * shape.hidden_size * (2 * queryWidth + 2 * keyWidth); // queries and output, keys and values
  const attention = 2 * tokens * tokens * queryWidth; // scores, and the mix of values
  const mlp = 3 * tokens * shape.hidden_size * shape.intermediate_size; // gate, up, down
  return 2 * (projections + attention + mlp);
}

function towerBlock(shape: NonNullable<CountedConfig['vision_config']>): number {
  const tokens = Math.floor(shape.image_size / shape.patch_size) ** 2 + 1; // and the class token
  const { hidden_size: width, intermediate_size: inner } = shape;
  return 2 * (4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * inner);
}
