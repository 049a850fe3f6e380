import { type CountedConfig, flops } from '../../../lib/analysis/flops';
import { createPruner } from '../../../lib/prune/registry';

const clip = { hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24, image_size: 336, patch_size: 14 };
const vicuna7b = {
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  head_dim: 128,
};
const llava7b: CountedConfig = { text_config: vicuna7b, vision_config: clip };
const MEBI = 2 ** 20;

describe('flops, against the efficiency tables of the paper (LLaVA-NeXT-7B, five crops)', () => {
  it.each([
    [2880, 43.58, 1440],
    [2160, 32.35, 1080],
    [1440, 21.66, 720],
    [720, 11.51, 360],
    [290, 5.71, 145],
    [145, 3.8, 72.5],
  ])('%i visual tokens: %d T and %d MiB of keys and values', (visualTokens, tera, mebibytes) => {
    const { total, cache } = flops(llava7b, { visualTokens, crops: 5 });
    expect(Math.abs(total / 1e12 - tera)).toBeLessThan(0.03);
    expect(cache / MEBI).toBe(mebibytes);
  });

  // The table divides the kept count by the kept share to get the count before block 2: at 10% and 5% that is 2900, not 2880.
  it.each([
    [2160, 2880, 33.05, 1102.5],
    [1440, 2880, 23.04, 765],
    [720, 2880, 13.53, 427.5],
    [290, 2900, 8.1, 226.5625],
    [145, 2900, 6.3, 158.59375],
  ])('FastV that keeps %i of %i: %d T and %d MiB', (tokens, before, tera, mebibytes) => {
    const visualTokens = createPruner({ method: 'fastv', tokens }).enteringTokens(before, 32) ?? [];
    const { total, cache } = flops(llava7b, { visualTokens, crops: 5 });
    expect(Math.abs(total / 1e12 - tera)).toBeLessThan(0.03);
    expect(cache / MEBI).toBe(mebibytes); // the paper prints two decimals of these
  });
});

describe('flops of LLaVA-1.5-7B by the same formula', () => {
  // visual tokens, decoder alone, with the tower, with the tower and 60 text tokens, MiB
  it.each([
    [576, 7.634, 8.016, 8.831, 288],
    [192, 2.506, 2.887, 3.678, 96],
    [144, 1.876, 2.257, 3.045, 72],
    [128, 1.666, 2.048, 2.835, 64],
    [64, 0.831, 1.212, 1.995, 32],
    [32, 0.415, 0.796, 1.577, 16],
    [29, 0.376, 0.757, 1.538, 14.5],
  ])('%i visual tokens', (visualTokens, decoder, total, withText, mebibytes) => {
    const alone = flops(llava7b, { visualTokens });
    expect(alone.decoder / 1e12).toBeCloseTo(decoder, 3);
    expect(alone.total / 1e12).toBeCloseTo(total, 3);
    expect(flops(llava7b, { visualTokens, textTokens: 60 }).total / 1e12).toBeCloseTo(withText, 3);
    expect(alone.cache / MEBI).toBe(mebibytes);
  });
});

describe('flops of other shapes', () => {
  it('of the 13B model keep 0.78125 MiB a token: 40 blocks of 5120', () => {
    const text_config = {
      hidden_size: 5120,
      intermediate_size: 13824,
      num_hidden_layers: 40,
      num_attention_heads: 40,
      num_key_value_heads: 40,
      head_dim: 128,
    };
    const { cache, blocks, decoder } = flops({ text_config, vision_config: clip }, { visualTokens: 576 });
    expect(cache / MEBI).toBe(576 * 0.78125);
    expect(blocks).toHaveLength(40);
    // twice the multiply-adds of 12.7 G parameters in the blocks' products, and of attention
    expect(decoder).toBe(2 * 576 * 40 * (4 * 5120 ** 2 + 3 * 5120 * 13824 + 2 * 576 * 5120));
  });

  it('count the narrower keys and values of grouped-query attention', () => {
    const grouped = { text_config: { ...vicuna7b, num_key_value_heads: 8 } };
    const whole = flops({ text_config: vicuna7b }, { visualTokens: 100 });
    const narrow = flops(grouped, { visualTokens: 100 });
    expect(narrow.cache).toBe(whole.cache / 4);
    expect(whole.decoder - narrow.decoder).toBe(32 * 2 * 100 * 4096 * 2 * (4096 - 1024));
  });

  it('have no tower without one, and grow by a tower for each crop', () => {
    expect(flops({ text_config: vicuna7b }, { visualTokens: 0, textTokens: 10 }).vision).toBe(0);
    expect(flops(llava7b, { visualTokens: 1, crops: 3 }).vision).toBe(3 * flops(llava7b, { visualTokens: 1 }).vision);
  });

  it('refuse counts for another number of blocks, with both numbers, and counts that are none', () => {
    expect(() => flops(llava7b, { visualTokens: [576, 576] })).toThrow('given for 2 blocks, but the decoder has 32');
    for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => flops(llava7b, { visualTokens: bad })).toThrow(`A count of tokens or crops is ${bad}`);
      expect(() => flops(llava7b, { visualTokens: 1, crops: bad })).toThrow(`A count of tokens or crops is ${bad}`);
    }
  });
});
