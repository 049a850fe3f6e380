import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { sglMethod } from '../../../lib/prune/sgl';
import { describeRecorded } from './decoder_oracle';
import { clip, request } from './views';

describeRecorded('sgl');

describe('SGL', () => {
  const entering = (options: PruneOptions, patches: number, blocks: number) => createPruner(options).enteringTokens(patches, blocks) as number[];

  it.each([
    [32, 9],
    [16, 4],
    [4, 1],
    [2, 1],
  ])('drops in a decoder of %i blocks before block %i', (blocks, layer) => {
    const counts = entering({ method: 'sgl', tokens: 6 }, 20, blocks);
    expect(counts.filter((count) => count === 20)).toHaveLength(layer);
  });

  it.each([4, 16, 32])('meets averages to half a token in a decoder of %i blocks, or says that it can not', (blocks) => {
    let met = 0;
    for (const patches of [36, 64, 576]) {
      for (const share of [1, 0.9, 0.5, 0.3, 0.22, 0.11]) {
        const options = sglMethod.forAverage?.(patches * share, { patches, decoderBlocks: blocks });
        if (!options) continue;
        met++;
        const counts = entering(options, patches, blocks);
        expect(Math.abs(counts.reduce((sum, count) => sum + count, 0) / blocks - patches * share)).toBeLessThanOrEqual(0.5);
      }
    }
    expect(met).toBeGreaterThanOrEqual(blocks === 4 ? 12 : 18);
    expect(sglMethod.forAverage?.(1, { patches: 576, decoderBlocks: blocks })).toBeUndefined();
  });

  it.each([
    [{ tokens: 5, layer: 0 }, 'LAYER_INVALID', 'at least 1'],
    [{ tokens: 5, layer: -1, importance: [1] }, 'LAYER_INVALID', 'at least 0'],
    [{ tokens: 5, importance: [] }, 'METHOD_OPTION_INVALID', 'one number for each visual token'],
    [{ tokens: 5, importance: [1, '2'] }, 'METHOD_OPTION_INVALID', 'importance'],
    [{ tokens: 5, importance: 3 }, 'METHOD_OPTION_INVALID', '"importance" is 3'],
    [{ tokens: 5, importance: [1, Number.NaN] }, 'ATTENTION_NOT_FINITE', 'token 1 of 2 is NaN'],
    [{}, 'BUDGET_MISSING', 'tokens'],
    [{ tokens: 5, depth: 1 }, 'METHOD_OPTION_UNKNOWN', 'depth'],
  ])('refuses %p', (options, code, message) => {
    const create = () => createPruner({ method: 'sgl', ...options } as PruneOptions);
    expect(create).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(create).toThrow(message);
  });

  it('refuses importance of another grid or of other images, and a layer that the decoder has not, before any work', () => {
    const begin = (options: PruneOptions) => () => createPruner(options).begin(request([4, 4], clip, 4));
    expect(begin({ method: 'sgl', tokens: 2, importance: [1, 2, 3, 4] })).toThrow('has 4 values, but the prompt has 8 visual tokens');
    expect(begin({ method: 'sgl', tokens: 2, importance: new Float32Array(8) })).not.toThrow();
    expect(begin({ method: 'sgl', tokens: 2, layer: 4 })).toThrow('Give 1 to 3');
    expect(begin({ method: 'sgl', tokens: 2 })).not.toThrow();
  });
});
