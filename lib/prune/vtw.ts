import { PruneError } from '../../layers/errors';
import { wholeNumber } from './checks';
import type { Method } from './method';

/** The block of 32 before which all visual tokens go, unless a search found another. */
const LAYER = 15;
const PUBLISHED_BLOCKS = 32;

export interface VtwOptions {
  readonly method: 'vtw';
  /** K: the 0-based block before which all visual tokens are dropped, from 1; of the number of blocks, none is dropped. Default: 15 of 32, by depth. */
  readonly layer?: number;
}

/**
 * Visual tokens withdrawal, VTW (Lin et al., AAAI 2025, https://arxiv.org/abs/2405.05803): before block K all visual tokens leave the decoder, once, in
 * prefill; by then, its authors find, the text has taken up what it needs. Positions are kept. `vispruner tune vtw` searches K for a model.
 */
export const vtwMethod: Method<VtwOptions> = {
  options: ['layer'],
  about: {
    title: 'VTW',
    acts: 'in the decoder, before block K (default 15 of 32), once in prefill',
    reads: 'nothing',
    training: 'a search of K on a few samples, `vispruner tune vtw`; the default is the published one, by depth',
    entering: 'N for K blocks, then 0; their mean is K N / L',
    source: 'Lin et al., AAAI 2025, [arXiv 2405.05803](https://arxiv.org/abs/2405.05803); lzhxmu/VTW @ a3d8cfc3',
    grade: 'exact',
    differences: [
      "The default layer, 15 of 32, is scaled to the depth of the decoder. K of the number of blocks keeps all: the search's answer where no layer suffices.",
      'A visual token that ends the prompt stays: its logits are the answer.',
    ],
  },
  example: { method: 'vtw', layer: 2 },
  /** Multiples of N / L alone can be had. */
  forAverage(average, { patches, decoderBlocks }) {
    const layer = Math.round((average * decoderBlocks) / patches);
    const near = Math.abs((layer * patches) / decoderBlocks - average) <= 0.5;
    return near && layer >= 1 && layer <= decoderBlocks ? { method: 'vtw', layer } : undefined;
  },
  create({ layer }) {
    if (layer !== undefined) wholeNumber(layer, 'layer', 'LAYER_INVALID', 1);
    const layerOf = (blocks: number) => {
      const own = layer ?? Math.max(1, Math.round((LAYER * blocks) / PUBLISHED_BLOCKS));
      if (own > blocks) {
        throw new PruneError(
          'LAYER_INVALID',
          `Option "layer" is ${own}, but the decoder has ${blocks} blocks. Give 1 to ${blocks}; ${blocks} keeps all.`,
        );
      }
      return own;
    };
    return {
      name: 'vtw',
      textDependent: false,
      positions: 'keep',
      needs: () => ({ attention: [] }),
      enteringTokens(patches, decoderBlocks) {
        const own = layerOf(decoderBlocks);
        return Array.from({ length: decoderBlocks }, (_, block) => (block < own ? patches : 0));
      },
      begin({ decoderBlocks }) {
        const own = layerOf(decoderBlocks);
        return {
          beforeBlock: ({ block }) => Promise.resolve(block === own ? { keep: new Int32Array(0) } : undefined),
          dispose() {},
        };
      },
    };
  },
};
