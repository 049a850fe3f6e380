import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { visionDropMethod } from '../../../lib/prune/visiondrop';
import { describeRecorded } from './decoder_oracle';
import { clip, request } from './views';

describeRecorded('visiondrop');

describe('VisionDrop', () => {
  const entering = (options: PruneOptions, patches: number, blocks: number) => createPruner(options).enteringTokens(patches, blocks) as number[];
  const average = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0) / counts.length;

  it('leaves 48, 35, 26 and 19 tokens in 32 blocks, as its released setting: 32 on average', () => {
    const counts = entering({ method: 'visiondrop', tokens: 48 }, 576, 32);
    expect([0, 7, 8, 15, 16, 23, 24, 31].map((block) => counts[block])).toEqual([48, 48, 35, 35, 26, 26, 19, 19]);
    expect(average(counts)).toBe(32);
    expect(visionDropMethod.forAverage?.(32, { patches: 576, decoderBlocks: 32 })).toEqual({ method: 'visiondrop', tokens: 48 });
  });

  it.each([2, 4, 16, 32])('meets averages to half a token in a decoder of %i blocks', (blocks) => {
    for (const patches of [36, 64, 576]) {
      for (const share of [1, 0.9, 0.7, 0.5, 0.22, 0.11, 0.056]) {
        const options = visionDropMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks }) as PruneOptions;
        expect(Math.abs(average(entering(options, patches, blocks)) - patches * share)).toBeLessThanOrEqual(0.5);
      }
    }
  });

  it('reads the class token and keys of the block that VisionZip reads', () => {
    const needs = createPruner({ method: 'visiondrop', tokens: 8 }).needs(clip);
    expect(needs).toEqual(createPruner({ method: 'visionzip', tokens: 8 }).needs(clip));
    expect(needs.projections).toEqual([clip.featureBlock]);
  });

  it.each([
    [{ tokens: 5, ratios: [0.5] }, 'RATIOS_INVALID', 'a list of 3, one a layer'],
    [{ tokens: 5, ratios: [0.5, 0.6, 0.1] }, 'RATIOS_INVALID', '[0.5, 0.6, 0.1]'],
    [{ tokens: 5, layers: [2] }, 'RATIOS_INVALID', 'a list of 1'],
    [{ tokens: 5, layers: [2, 2], ratios: [0.5, 0.5] }, 'LAYER_INVALID', '[2, 2]'],
    [{ tokens: 0 }, 'TOKENS_INVALID', '"tokens" is 0'],
    [{}, 'BUDGET_MISSING', 'tokens'],
    [{ tokens: 5, contextual: 1 }, 'METHOD_OPTION_UNKNOWN', 'contextual'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'visiondrop', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses a decoder of one block, and more tokens than patches, before any work', () => {
    expect(() => createPruner({ method: 'visiondrop', tokens: 2 }).begin(request([4], clip, 1))).toThrow('The decoder has 1 blocks');
    expect(() => createPruner({ method: 'visiondrop', tokens: 5 }).begin(request([4], clip, 4))).toThrow(
      expect.objectContaining({ code: 'TOKENS_EXCEED_PATCHES' }),
    );
  });
});
