import { PruneError } from '../../layers/errors';
import { attentionFrom } from './attention_scores';
import { BUDGET_OPTIONS, type Budget, tokenCount } from './budget';
import { checkScores, show, wholeNumber } from './checks';
import type { Method } from './method';
import { highest } from './ranking';
import type { DecoderView, Pruner } from './types';

/** The published share of blocks before the one that drops. */
const DEPTH = 0.3;

/** The budget is what stays of each crop. */
export type SglOptions = {
  readonly method: 'sgl';
  /** Of each visual token of the prompt, what a smaller model made of it: `sglImportance`. Left out, the model's own blocks before `layer` tell. */
  readonly importance?: readonly number[] | Float32Array;
  /** K, the 0-based block before which tokens are dropped; default int(0.3 L), at least 1. 0 only with `importance`. */
  readonly layer?: number;
} & Budget;

/**
 * SGL (Zhao et al., CVPR 2025, https://arxiv.org/abs/2412.03324): a small model guides a large one. What the small model's text rows, its answer's included,
 * attend to in all of its blocks and heads, summed, is the importance of visual tokens; before block K the large model keeps the most important ones.
 */
export const sglMethod: Method<SglOptions> = {
  options: [...BUDGET_OPTIONS, 'importance', 'layer'],
  about: {
    title: 'SGL',
    acts: 'in the decoder, before block K (default int(0.3 L)), once in prefill',
    reads: "attention of the text in all blocks of a smaller model, `sglImportance`; without one, of the prompt's text in its own blocks before K",
    entering: "N for K blocks, then N'; their mean is (K N + (L - K) N') / L; the small model's whole pass comes on top",
    source: 'Zhao et al., CVPR 2025, [arXiv 2412.03324](https://arxiv.org/abs/2412.03324); NUS-HPC-AI-Lab/SGL @ 7e76fd2c',
    grade: 'exact',
    differences: [
      'Without `importance` one model shares its depth (ours): its first K blocks are the small model, they guide the others, and nothing is run twice. No answer has been written by then, so that the rows are those of the prompt alone.',
      'The small model writes its answer, then goes through prompt and answer once more, to read the few rows that count; the released code keeps whole maps. The numbers are the same. As there, the last visual token counts among the text.',
      'Early exit is a function, `sglGuidance`: it gives the confidence and the consistency of the small answer; the published rule and threshold were chosen on test sets.',
      'The kept share is rounded halves up; the released code rounds down. Of equal importance, the earlier token stays.',
      'The visual tokens of several images or crops are ranked together, for the sum of their budgets.',
    ],
  },
  example: { method: 'sgl', keepRatio: 0.3 },
  forAverage(average, { patches, decoderBlocks }) {
    if (average >= patches) return { method: 'sgl', tokens: patches };
    const usual = usualLayer(decoderBlocks);
    for (let layer = usual; layer >= 1; layer--) {
      const kept = Math.round((decoderBlocks * average - layer * patches) / (decoderBlocks - layer));
      if (kept >= 1) return { method: 'sgl', ...(layer === usual ? {} : { layer }), tokens: Math.min(kept, patches) };
    }
    return undefined;
  },
  create(options) {
    const count = tokenCount(options);
    const importance = options.importance === undefined ? undefined : checkImportance(options.importance);
    const given = options.layer === undefined ? undefined : wholeNumber(options.layer, 'layer', 'LAYER_INVALID', importance ? 0 : 1);
    const layerOf = (blocks: number) => {
      const layer = given ?? usualLayer(blocks);
      if (layer < blocks) return layer;
      throw new PruneError(
        'LAYER_INVALID',
        `The layer is ${layer}, but the decoder has ${blocks} blocks: nothing would be dropped. Give ${importance ? 0 : 1} to ${blocks - 1}.`,
      );
    };
    return {
      name: 'sgl',
      textDependent: true,
      positions: 'keep',
      needs: () => ({ attention: [] }),
      enteringTokens(patches, blocks) {
        const [layer, kept] = [layerOf(blocks), count(patches)];
        return Array.from({ length: blocks }, (_, block) => (block < layer ? patches : kept));
      },
      begin({ decoderBlocks, patchesPerCrop }) {
        const layer = layerOf(decoderBlocks);
        const kept = patchesPerCrop.reduce((sum, patches) => sum + count(patches), 0);
        const own = importance ? undefined : new TextAttentionSum();
        const visual = patchesPerCrop.reduce((sum, patches) => sum + patches, 0);
        if (importance && importance.length !== visual) {
          throw new PruneError(
            'METHOD_OPTION_INVALID',
            `Option "importance" has ${importance.length} values, but the prompt has ${visual} visual tokens. Take it from a model with the same grid of patches, for the same images.`,
          );
        }
        return {
          async beforeBlock(view) {
            if (view.visualRows.length <= kept) return undefined;
            if (view.block < layer) await own?.add(view);
            if (view.block !== layer) return undefined;
            return { keep: highest(importance ?? (own as TextAttentionSum).sums, kept) };
          },
          dispose() {},
        };
      },
    };
  },
};

/** What the rows from the last visual token on attend to, summed over rows, heads and the blocks that it is shown. */
class TextAttentionSum {
  /** [visual tokens] */
  sums: Float32Array = new Float32Array(0);

  /** Of the block about to run, in a sequence that has all its visual tokens. */
  async add(view: DecoderView): Promise<void> {
    const first = view.visualRows.at(-1) as number;
    const rows = Int32Array.from({ length: view.sequenceLength - first }, (_, i) => first + i);
    const scores = await attentionFrom(view, view.block, rows);
    if (this.sums.length === 0) this.sums = new Float32Array(scores.length);
    for (const [token, score] of scores.entries()) this.sums[token]! += score * view.decoder.heads;
  }
}

/** A pruner that drops nothing and sums the attention of the text in all blocks; `importance()` gives the sums of the last prompt that it saw. */
export function observeText(): { readonly pruner: Pruner; importance(): Float32Array } {
  let sum = new TextAttentionSum();
  const pruner: Pruner = {
    name: 'sgl-observer',
    textDependent: true,
    positions: 'keep',
    needs: () => ({ attention: [] }),
    enteringTokens: (patches, blocks) => new Array<number>(blocks).fill(patches),
    begin() {
      const own = new TextAttentionSum();
      sum = own;
      return {
        async beforeBlock(view) {
          await own.add(view);
          return undefined;
        },
        dispose() {},
      };
    },
  };
  return { pruner, importance: () => sum.sums };
}

function usualLayer(blocks: number): number {
  return Math.max(1, Math.floor(blocks * DEPTH));
}

function checkImportance(importance: unknown): Float32Array {
  const list = Array.isArray(importance) || importance instanceof Float32Array ? (importance as readonly number[] | Float32Array) : undefined;
  if (!list || list.length === 0 || !list.every((value) => typeof value === 'number')) {
    throw new PruneError(
      'METHOD_OPTION_INVALID',
      `Option "importance" is ${show(importance)}. Give one number for each visual token, as sglImportance does.`,
    );
  }
  const scores = Float32Array.from(list);
  checkScores(scores);
  return scores;
}
