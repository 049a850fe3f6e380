import { PruneError } from '../../layers/errors';
import { attentionOfLast } from './attention_scores';
import { fraction } from './checks';
import { checkDepth, checkLayers, scaledLayers } from './depth';
import type { BudgetFacts, Method } from './method';
import { highest } from './ranking';
import { checkRatios, enteringByStage, gentlest, mean, nearestKnob } from './stages';

/** Blocks of 32 before which tokens are dropped, and the share of them that a stage leaves. */
const LAYERS = [8, 16, 24];
const RATIO = 0.5;
/** Layers with which its author reaches budgets that the default can't, then two of ours for less; of 32, and the least block that they may come down to. */
const EARLIER = [
  { layers: [2, 8, 16], least: 1 },
  { layers: [0, 4, 8], least: 0 },
];
/** Below this share a stage, earlier layers are the better way to a small budget. */
const LEAST_RATIO = 0.1;

export interface PyramidDropOptions {
  readonly method: 'pyramiddrop';
  /** 0-based blocks of this decoder before which tokens are dropped, ascending; default: 8, 16 and 24 of 32, by its depth. 0 ranks the embeddings. */
  readonly layers?: readonly number[];
  /** Lambda: the share of its tokens that each stage keeps, above 0, at most 1; default 0.5. */
  readonly ratio?: number;
  /** In place of `ratio`: the share of all that is left after each stage. */
  readonly ratios?: readonly number[];
}

/**
 * PyramidDrop (Xing et al., CVPR 2025, https://arxiv.org/abs/2410.17247), as it is used without training: the decoder runs in stages, and before the first
 * block of each but the first only the visual tokens stay to which the prompt's last token attends most in that block (its own norm, queries and keys on
 * the states that enter it; softmaxed, averaged over heads). Stage j leaves int(N * lambda^j). Positions are counted anew.
 */
export const pyramidDropMethod: Method<PyramidDropOptions> = {
  options: ['layers', 'ratio', 'ratios'],
  about: {
    title: 'PyramidDrop',
    acts: 'in the decoder, before blocks 8, 16 and 24 of 32, once in prefill',
    reads: 'attention of the last prompt token in the block about to run, averaged over heads',
    entering: 'int(N λ^j) from the j-th layer l_j on; their mean is N sum_j λ^j (l_(j+1) - l_j) / L',
    source:
      'Xing et al., CVPR 2025, [arXiv 2410.17247](https://arxiv.org/abs/2410.17247); Cooperx521/PyramidDrop @ 6444f304, inference without training',
    grade: 'exact',
    differences: [
      'Layers are scaled to the depth of the decoder; a stage keeps at least one token.',
      "The lists behind the paper's tables of 192, 128 and 64 tokens were not published: for a given average, lambda is solved for layers 8, 16, 24, else 2, 8, 16 (its author's advice), else 0, 4, 8 of 32 (ours).",
      'Layer 0, where the last token looks at embeddings, is allowed; no released setting has it.',
      'The visual tokens of several images or crops are ranked together, for the sum of their counts; the released code knows one image.',
      'Of equal attention, the earlier token is kept.',
      'The row is computed once; the released code projects queries, keys and values of all tokens a second time.',
    ],
  },
  example: { method: 'pyramiddrop', ratio: 0.5 },
  forAverage(average, facts) {
    if (average >= facts.patches) return { method: 'pyramiddrop', ratio: 1 };
    const tries = [{ layers: LAYERS, least: 1 }, ...EARLIER].map(({ layers: published, least }, i) => {
      const layers = scaledLayers(published, facts.decoderBlocks, least);
      const ratio = ratioFor(average, layers, facts);
      return ratio === undefined ? undefined : { knob: ratio, options: { method: 'pyramiddrop', ...(i === 0 ? {} : { layers }), ratio } as const };
    });
    return gentlest(tries, LEAST_RATIO);
  },
  create({ layers: given, ratio, ratios }) {
    if (ratio !== undefined && ratios !== undefined) {
      throw new PruneError('BUDGET_AMBIGUOUS', 'Both "ratio" and "ratios" are given. Give one of them.');
    }
    const own = given === undefined ? undefined : checkLayers(given, 'layers', 0);
    const lambda = fraction(ratio ?? RATIO, 'ratio', 'KEEP_RATIO_INVALID', false);
    const shares = ratios === undefined ? undefined : checkRatios(ratios, 'ratios', (own ?? LAYERS).length);
    const layersOf = (blocks: number) => {
      const layers = own ?? scaledLayers(LAYERS, blocks);
      checkDepth(layers, 'layers', blocks, blocks - 1);
      return layers;
    };
    const counts = (patches: number, stages: number) =>
      shares ? shares.slice(0, stages).map((share) => floorCount(patches * share)) : stageCounts(patches, lambda, stages);
    return {
      name: 'pyramiddrop',
      textDependent: true,
      positions: 'compact',
      needs: () => ({ attention: [] }),
      enteringTokens(patches, decoderBlocks) {
        const layers = layersOf(decoderBlocks);
        return enteringByStage(patches, decoderBlocks, layers, counts(patches, layers.length));
      },
      begin({ patchesPerCrop, decoderBlocks }) {
        const layers = layersOf(decoderBlocks);
        const byCrop = patchesPerCrop.map((patches) => counts(patches, layers.length));
        return {
          async beforeBlock(view) {
            const stage = layers.indexOf(view.block);
            if (stage < 0) return undefined;
            const kept = byCrop.reduce((sum, one) => sum + (one[stage] as number), 0);
            if (kept >= view.visualRows.length) return undefined;
            return { keep: highest(await attentionOfLast(view, view.block), kept) };
          },
          dispose() {},
        };
      },
    };
  },
};

/** What each stage leaves of N. */
function stageCounts(patches: number, ratio: number, stages: number): number[] {
  return Array.from({ length: stages }, (_, j) => floorCount(patches * ratio ** (j + 1)));
}

/** Rounded down, as the released code does; the product of two rounded numbers may lie a hair below a whole one. */
function floorCount(share: number): number {
  return Math.max(1, Math.floor(share + 1e-9));
}

function ratioFor(average: number, layers: readonly number[], { patches, decoderBlocks }: BudgetFacts): number | undefined {
  if (layers.length === 0) return undefined;
  return nearestKnob(average, 0.5, (ratio) => mean(enteringByStage(patches, decoderBlocks, layers, stageCounts(patches, ratio, layers.length))));
}
