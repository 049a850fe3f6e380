import { PruneError } from '../../layers/errors';
import { attentionOfLast } from './attention_scores';
import { BUDGET_OPTIONS, type Budget, tokenCount } from './budget';
import { show, wholeNumber } from './checks';
import type { Method } from './method';
import { highest } from './ranking';
import type { DecoderView, Reduction } from './types';

/** What stays after the reduction, per crop; or `averageTokens`: visual tokens entering a block, averaged over all blocks. */
export type FastVBudget =
  | (Budget & { readonly averageTokens?: undefined })
  | { readonly averageTokens: number; readonly tokens?: undefined; readonly keepRatio?: undefined };

/** `layer`: K, the 0-based block before which tokens are dropped, 1 or more; default 2. */
export type FastVOptions = { readonly method: 'fastv'; readonly layer?: number } & FastVBudget;

/**
 * FastV (Chen et al., ECCV 2024, https://arxiv.org/abs/2403.06764), the variant that drops and caches: before block K, once, in prefill, only those
 * visual tokens stay to which the prompt's last token attends most in block K - 1 (softmaxed, averaged over heads). Positions are kept, gaps and all;
 * caches of earlier blocks are left as they are.
 */
export const fastVMethod: Method<FastVOptions> = {
  options: [...BUDGET_OPTIONS, 'averageTokens', 'layer'],
  about: {
    title: 'FastV',
    acts: 'in the decoder, before block K (default 2), once in prefill',
    reads: 'attention of the last prompt token in block K - 1, averaged over heads',
    entering: "N for K blocks, then N'; their mean is (K N + (L - K) N') / L",
    source: 'Chen et al., ECCV 2024, [arXiv 2403.06764](https://arxiv.org/abs/2403.06764); pkunlp-icler/FastV @ d1659729, the variant with a cache',
    grade: 'exact',
    differences: [
      "The attention row is computed on the side, so block K - 1 runs once; the authors' evaluation file runs it twice and caches its keys twice.",
      "The budget is the kept count N' per crop (or a ratio, or an average over blocks), not the removed share R. Rounding is round(N * ratio), halves up.",
      'The visual tokens of several images or crops are ranked together, for the sum of their budgets; the released code knows one image.',
      'K = 0 is refused: the released code then drops at random. K of the number of blocks or more is refused too: nothing would be dropped.',
      'Of equal attention, the earlier token is kept.',
    ],
  },
  example: { method: 'fastv', tokens: 64, layer: 2 },
  forAverage(average, { patches, decoderBlocks }) {
    for (let layer = Math.min(2, decoderBlocks - 1); layer >= 1; layer--) {
      // 2 as in the paper, where the budget allows it
      const kept = Math.round((decoderBlocks * average - layer * patches) / (decoderBlocks - layer));
      if (kept >= 1) return { method: 'fastv', layer, tokens: Math.min(kept, patches) };
    }
    return undefined;
  },
  create(options) {
    const layer = wholeNumber(options.layer ?? 2, 'layer', 'LAYER_INVALID', 1);
    const count = keptCount(options, layer);
    return {
      name: 'fastv',
      textDependent: true,
      positions: 'keep',
      needs: () => ({ attention: [], blockInput: true }),
      enteringTokens(patches, decoderBlocks) {
        const kept = count(patches, decoderBlocks);
        return Array.from({ length: decoderBlocks }, (_, block) => (block < layer ? patches : kept));
      },
      begin({ patchesPerCrop, decoderBlocks }) {
        const kept = patchesPerCrop.reduce((sum, patches) => sum + count(patches, decoderBlocks), 0);
        return {
          beforeBlock: (view) => (view.block === layer && view.visualRows.length > kept ? reduce(view, kept) : Promise.resolve(undefined)),
          dispose() {},
        };
      },
    };
  },
};

async function reduce(view: DecoderView, kept: number): Promise<Reduction> {
  return { keep: highest(await attentionOfLast(view, view.block - 1), kept) };
}

/** N' of a crop, by its patches N and the decoder's blocks L. */
function keptCount(options: FastVOptions, layer: number): (patches: number, decoderBlocks: number) => number {
  const { tokens, keepRatio, averageTokens } = options;
  const perCrop = averageTokens === undefined ? tokenCount({ tokens, keepRatio }) : undefined;
  if (averageTokens !== undefined) {
    if (tokens !== undefined || keepRatio !== undefined) {
      throw new PruneError('BUDGET_AMBIGUOUS', '"averageTokens" is given beside "tokens" or "keepRatio". Give one of them.');
    }
    if (typeof averageTokens !== 'number' || !(averageTokens > 0) || !Number.isFinite(averageTokens)) {
      throw new PruneError('TOKENS_INVALID', `Option "averageTokens" is ${show(averageTokens)}. Give a number above 0.`);
    }
  }
  return (patches, decoderBlocks) => {
    if (layer >= decoderBlocks) {
      throw new PruneError(
        'LAYER_INVALID',
        `Option "layer" is ${layer}, but the decoder has ${decoderBlocks} blocks: nothing would be dropped. Give 1 to ${decoderBlocks - 1}.`,
      );
    }
    if (perCrop !== undefined) return perCrop(patches);
    const kept = Math.round((decoderBlocks * averageTokens! - layer * patches) / (decoderBlocks - layer));
    if (kept < 1 || kept > patches) {
      const least = (layer * patches + decoderBlocks - layer) / decoderBlocks;
      throw new PruneError(
        'BUDGET_UNREACHABLE',
        `An average of ${averageTokens} tokens would keep ${kept} of ${patches} after block ${layer} of ${decoderBlocks}. Give ${least} to ${patches}, or a lower "layer".`,
      );
    }
    return kept;
  };
}
