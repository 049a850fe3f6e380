import { PruneError } from '../../layers/errors';
import { attentionOfGroups, textRows } from './attention_scores';
import { checkScores, show, wholeNumber } from './checks';
import type { BudgetFacts, Method } from './method';
import { highest } from './ranking';
import { mean, nearestKnob } from './stages';
import type { DecoderView } from './types';

export interface FitPruneOptions {
  readonly method: 'fitprune';
  /** How many visual tokens go in each block, behind its attention: one whole number of 0 or more a block. `vispruner tune fitprune` finds them. */
  readonly recipe: readonly number[];
  /** N of a crop that the recipe is for; crops of other sizes lose the same shares. */
  readonly patches: number;
}

/**
 * FitPrune (Ye et al., AAAI 2025, https://arxiv.org/abs/2409.10197): in each block, once, in prefill, the tokens that get the least attention end behind the
 * attention: they have given their keys and values, and neither the MLP nor a later block sees them. A token's score is what it gets from the visual rows
 * times what it gets from the text behind the image, in the block's own map with its largest head at each place. Positions are kept. How many go in which
 * block is a recipe, fitted to a model and a budget.
 */
export const fitPruneMethod: Method<FitPruneOptions> = {
  options: ['recipe', 'patches'],
  about: {
    title: 'FitPrune',
    acts: 'in every decoder block, between attention and MLP, once in prefill',
    reads: 'attention of all visual rows and of the text behind the image in each block, the largest of the heads',
    training: 'a recipe of deletions a block, fitted with `vispruner tune fitprune`',
    entering: 'N - sum of the deletions in blocks before; block i still attends with what it deletes',
    source: 'Ye et al., AAAI 2025, [arXiv 2409.10197](https://arxiv.org/abs/2409.10197); ywh187/FitPrune @ d28e418c',
    grade: 'exact',
    differences: [
      'Recipes that its authors fitted to LLaVA-1.5-7B do not come with it: one is fitted to the model at hand.',
      'Fitting aims at entering tokens, averaged over blocks, where the released one aims at FLOPs of visual tokens, and trims the last deletions so that the average is met.',
      'Fitting deletes the longest prefix that the tolerance allows; the released code deletes one token less.',
      'Options for an average without fitting delete the same share in each block: a recipe of ours, not a fitted one.',
      'A recipe for crops of N patches is scaled, by its running sums, to crops of other sizes; the visual tokens of several crops are ranked together.',
      'Of equal scores, the later token goes. At least one token stays.',
    ],
  },
  example: { method: 'fitprune', recipe: [24, 16, 8, 0], patches: 64 },
  forAverage(average, facts) {
    if (average >= facts.patches) return { method: 'fitprune', recipe: new Array<number>(facts.decoderBlocks).fill(0), patches: facts.patches };
    const stays = nearestKnob(average, 0.5, (share) => averageOf(geometricRecipe(share, facts), facts));
    return stays === undefined ? undefined : { method: 'fitprune', recipe: geometricRecipe(stays, facts), patches: facts.patches };
  },
  create(options) {
    const recipe = checkRecipe(options);
    return {
      name: 'fitprune',
      textDependent: true,
      positions: 'keep',
      needs: () => ({ attention: [] }),
      enteringTokens: (patches, decoderBlocks) => leftBefore(scaled(recipe, options.patches, patches, decoderBlocks), patches),
      begin({ patchesPerCrop, decoderBlocks }) {
        const byCrop = patchesPerCrop.map((patches) => scaled(recipe, options.patches, patches, decoderBlocks));
        return {
          async afterAttention(view) {
            const deleted = byCrop.reduce((sum, one) => sum + (one[view.block] as number), 0);
            const kept = Math.max(1, view.visualRows.length - deleted);
            if (deleted === 0 || kept === view.visualRows.length) return undefined;
            const { own, cross } = await fitPruneScores(view);
            return { keep: highest(productOf(own, cross), kept) };
          },
          dispose() {},
        };
      },
    };
  },
};

/** What each visual token gets, a row, in the block half run: from visual rows and from the text behind the image, [n] each. */
export async function fitPruneScores(view: DecoderView): Promise<{ readonly own: Float32Array; readonly cross: Float32Array }> {
  const behind = textRows(view, true);
  const text = behind.length > 0 ? behind : Int32Array.of(view.sequenceLength - 1);
  const [own, cross] = (await attentionOfGroups(view, view.block, [view.visualRows, text], 'max')) as [Float32Array, Float32Array];
  return { own: own.map((sum) => sum / own.length), cross: cross.map((sum) => sum / text.length) };
}

/** The released score of a token. */
function productOf(own: Float32Array, cross: Float32Array): Float32Array {
  const scores = own.map((value, i) => value * (cross[i] as number));
  checkScores(scores);
  return scores;
}

/** @throws PruneError `RECIPE_INVALID`, `TOKENS_INVALID` */
function checkRecipe({ recipe, patches }: Omit<FitPruneOptions, 'method'>): readonly number[] {
  const good = Array.isArray(recipe) && recipe.length > 0 && recipe.every((count) => Number.isSafeInteger(count) && count >= 0);
  if (!good) {
    const given = Array.isArray(recipe) ? `[${recipe.map(show).join(', ')}]` : show(recipe);
    throw new PruneError(
      'RECIPE_INVALID',
      `Option "recipe" is ${given}. Give the number of tokens that go in each block, whole numbers of 0 or more: "vispruner tune fitprune" finds them.`,
    );
  }
  wholeNumber(patches, 'patches', 'TOKENS_INVALID', 1);
  const sum = recipe.reduce((total, count) => total + count, 0);
  if (sum >= patches) {
    throw new PruneError('RECIPE_INVALID', `Option "recipe" deletes ${sum} of ${patches} tokens ("patches"). At least one has to stay.`);
  }
  return recipe;
}

/** Deletions of a recipe for `from` patches in a crop of `to`. @throws PruneError `RECIPE_INVALID` */
function scaled(recipe: readonly number[], from: number, to: number, blocks: number): number[] {
  if (recipe.length !== blocks) {
    throw new PruneError(
      'RECIPE_INVALID',
      `Option "recipe" has ${recipe.length} numbers, but the decoder has ${blocks} blocks. Fit a recipe to this model: "vispruner tune fitprune".`,
    );
  }
  let [sum, before] = [0, 0];
  return recipe.map((count) => {
    sum += count;
    const now = Math.min(to - 1, Math.round((sum * to) / from));
    const deleted = now - before;
    before = now;
    return deleted;
  });
}

/** Visual tokens entering each block. */
export function leftBefore(deletions: readonly number[], patches: number): number[] {
  let left = patches;
  return deletions.map((count) => {
    const entering = left;
    left -= count;
    return entering;
  });
}

/** Every block passes on the same share of what entered it; the last, whose MLP alone would have less to do, all. */
function geometricRecipe(share: number, { patches, decoderBlocks }: BudgetFacts): number[] {
  const left = (block: number) => Math.max(1, Math.round(patches * share ** Math.min(block, decoderBlocks - 1)));
  return Array.from({ length: decoderBlocks }, (_, block) => left(block) - left(block + 1));
}

function averageOf(recipe: readonly number[], { patches }: BudgetFacts): number {
  return mean(leftBefore(recipe, patches));
}
