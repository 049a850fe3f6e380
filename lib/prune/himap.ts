import { attentionFrom, textRows } from './attention_scores';
import { checkDepth, checkLayers, scaledLayers } from './depth';
import type { Method } from './method';
import { highest } from './ranking';
import { checkRatios, enteringByStage, gentlest, mean, nearestKnob } from './stages';

/** Blocks of 32, and shares that are left before each: 288 and 72 of 576. */
const LAYERS = [2, 8];
const RATIOS = [0.5, 0.125];
/** For averages that these can't reach. */
const EARLIER = [1, 4];
/** Below this share, earlier layers are the better way to a small average. */
const LEAST_SHARE = 0.25;

export interface HiMapOptions {
  readonly method: 'himap';
  /** Two 0-based blocks before which tokens are dropped, ascending, from 1; default: 2 and 8 of 32, by the decoder's depth. */
  readonly layers?: readonly number[];
  /** The share of all visual tokens that is left behind each; default 0.5 and 0.125. */
  readonly ratios?: readonly number[];
}

/**
 * HiMAP (Yin et al. 2025, https://arxiv.org/abs/2503.13108): in prefill, before an early block those visual tokens stay to which all text together attends most
 * in the block before; before a later one, of these, those to which the visual tokens themselves attend most in the block before that. Heads are averaged,
 * positions are kept.
 */
export const hiMapMethod: Method<HiMapOptions> = {
  options: ['layers', 'ratios'],
  about: {
    title: 'HiMAP',
    acts: 'in the decoder, before blocks 2 and 8 of 32, once in prefill',
    reads: 'attention summed over all text rows in the block before the first, over all visual rows in the block before the second; mean of heads',
    entering: 'N, then N r_1 from the first layer and N r_2 from the second on; with the defaults N / 4 on average',
    source: 'Yin et al. 2025, [arXiv 2503.13108](https://arxiv.org/abs/2503.13108); ustc-hyin/HiMAP @ 6c279e74',
    grade: 'exact',
    differences: [
      'Caches are kept: the released code computes every step anew, and chooses anew with it.',
      'Layers are scaled to the depth of the decoder; 288 and 72 tokens of 576 are shares of N. A decoder of two blocks has the first stage alone.',
      'For another average, the two shares are t and t^3, as 1/2 and 1/8 are, at layers 1 and 4 of 32 where 2 and 8 would have to drop nearly all at once (ours).',
      'The visual tokens of several images or crops are ranked together, for the sum of their counts.',
      'Of equal sums, the earlier token is kept. As in the released code, sums over visual rows are not corrected for how many rows see a token.',
    ],
  },
  example: { method: 'himap', ratios: [0.5, 0.125] },
  forAverage(average, { patches, decoderBlocks }) {
    const ratiosAt = (knob: number) => [knob, knob ** 3];
    if (average >= patches) return { method: 'himap', ratios: [1, 1] };
    const tries = [LAYERS, EARLIER].map((published, i) => {
      const layers = scaledLayers(published, decoderBlocks);
      if (layers.length < (i === 0 ? 1 : 2)) return undefined;
      const knob = nearestKnob(average, 0.75, (share) => mean(enteringByStage(patches, decoderBlocks, layers, countsOf(ratiosAt(share), patches))));
      return knob === undefined ? undefined : { knob, options: { method: 'himap', ...(i === 0 ? {} : { layers }), ratios: ratiosAt(knob) } as const };
    });
    return gentlest(tries, LEAST_SHARE);
  },
  create({ layers: given, ratios = RATIOS }) {
    const own = given === undefined ? undefined : checkLayers(given, 'layers', 1);
    checkRatios(ratios, 'ratios', (own ?? LAYERS).length);
    const layersOf = (blocks: number) => {
      const layers = own ?? scaledLayers(LAYERS, blocks);
      checkDepth(layers, 'layers', blocks, blocks - 1);
      return layers;
    };
    return {
      name: 'himap',
      textDependent: true,
      positions: 'keep',
      needs: () => ({ attention: [], blockInput: true }),
      enteringTokens: (patches, decoderBlocks) => enteringByStage(patches, decoderBlocks, layersOf(decoderBlocks), countsOf(ratios, patches)),
      begin({ patchesPerCrop, decoderBlocks }) {
        const layers = layersOf(decoderBlocks);
        const byCrop = patchesPerCrop.map((patches) => countsOf(ratios, patches));
        return {
          async beforeBlock(view) {
            const stage = layers.indexOf(view.block);
            if (stage < 0) return undefined;
            const kept = byCrop.reduce((sum, counts) => sum + (counts[stage] as number), 0);
            if (kept >= view.visualRows.length) return undefined;
            const rows = stage === 0 ? textRows(view, false) : view.visualRows;
            return { keep: highest(await attentionFrom(view, view.block - 1, rows), kept) };
          },
          dispose() {},
        };
      },
    };
  },
};

function countsOf(ratios: readonly number[], patches: number): number[] {
  return ratios.map((ratio) => Math.max(1, Math.round(patches * ratio)));
}
