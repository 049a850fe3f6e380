import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { vtwMethod } from '../../../lib/prune/vtw';
import { describeRecorded } from './decoder_oracle';
import { clip, request } from './views';

describeRecorded('vtw');

describe('VTW', () => {
  it.each([
    [32, 15],
    [4, 2],
    [1, 1],
  ])('withdraws, in a decoder of %i blocks, before block %i unless it is told otherwise', (blocks, layer) => {
    const entering = createPruner({ method: 'vtw' }).enteringTokens(10, blocks);
    expect(entering).toEqual(Array.from({ length: blocks }, (_, block) => (block < layer ? 10 : 0)));
  });

  it('has options for multiples of N / L and for no other average', () => {
    const facts = { patches: 256, decoderBlocks: 4 };
    expect([256, 192, 128, 64].map((average) => vtwMethod.forAverage?.(average, facts)?.layer)).toEqual([4, 3, 2, 1]);
    expect([300, 120, 56, 0].map((average) => vtwMethod.forAverage?.(average, facts))).toEqual([undefined, undefined, undefined, undefined]);
  });

  it.each([0, 1.5, '2', Number.NaN])('refuses layer %p', (layer) => {
    expect(() => createPruner({ method: 'vtw', layer } as PruneOptions)).toThrow(expect.objectContaining({ code: 'LAYER_INVALID' }));
  });

  it('refuses a layer behind the last block', () => {
    expect(() => createPruner({ method: 'vtw', layer: 5 }).begin(request([4], clip, 4))).toThrow('Give 1 to 4; 4 keeps all.');
  });
});
