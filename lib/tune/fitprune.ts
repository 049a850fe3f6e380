import { PruneError } from '../../layers/errors';
import type { EncodedRequest } from '../llava';
import { fitPruneScores, leftBefore } from '../prune/fitprune';
import type { BudgetFacts } from '../prune/method';
import { mean } from '../prune/stages';
import type { DecoderView, Pruner, PruningRun } from '../prune/types';
import { searchNumber } from './options';
import type { TuneSet } from './tune_set';
import type { Tuner } from './tuner';

/** How closely the tolerance is found. */
const PRECISION = 0.01;

/** What the visual tokens of one block got together, a row: from visual rows, and from the text behind the image. */
interface Received {
  readonly own: number;
  readonly cross: number;
}

/**
 * FitPrune's fitting (https://arxiv.org/abs/2409.10197): each sample runs whole once, to see how much attention its visual tokens get in each block. Then
 * a tolerance alpha is halved in on: in each block of a sample those tokens go that are among the least looked at by visual rows and by the text alike, as
 * many as leave each of the two sums at 1 - alpha of what it was; what goes is gone for later blocks. The recipe is the mean over samples, rounded down, of
 * what goes in each block, at the least alpha that meets the budget.
 *
 * Differs from the reference: it aims at entering tokens averaged over blocks, not at FLOPs of visual tokens, and trims the last deletions to meet the average;
 * the longest prefix is deleted, where the released code leaves one more.
 */
export const tuneFitPrune: Tuner = {
  about: 'how many visual tokens go in each block',
  options: { precision: `of the tolerance that is searched (default: ${PRECISION})` },
  budget: true,
  async search(set, { average, options, progress }) {
    const precision = searchNumber(options, 'precision', PRECISION, { least: 1e-6, most: 0.5 });
    const { facts } = set;
    const { patches } = facts;
    const rounds = Math.ceil(Math.log2(1 / precision));
    const total = (rounds + 2) * set.prompts.length;
    let done = 0;
    const whole = new Map<EncodedRequest, readonly Received[]>();
    for (const prompt of set.prompts) {
      whole.set(prompt, await receivedBy(set, prompt));
      progress(++done, total);
    }
    const recipeAt = async (alpha: number) => {
      const sums = new Array<number>(facts.decoderBlocks).fill(0);
      for (const prompt of set.prompts) {
        const gone = await deletedBy(set, prompt, whole.get(prompt) as readonly Received[], alpha);
        for (const [block, count] of gone.entries()) sums[block] = (sums[block] as number) + count / cropsOf(prompt);
        progress(Math.min(total, ++done), total);
      }
      return sums.map((sum) => Math.floor(sum / set.prompts.length));
    };
    const entering = (recipe: readonly number[]) => mean(leftBefore(recipe, patches));
    let [low, high] = [0, 1];
    let best = await recipeAt(1);
    if (entering(best) > average) {
      throw new PruneError(
        'BUDGET_UNREACHABLE',
        `FitPrune can bring the average down to ${entering(best).toFixed(1)} of ${patches} visual tokens, not to ${average}: its first block attends to all. Give more.`,
      );
    }
    while (high - low > precision) {
      const middle = (low + high) / 2;
      const recipe = await recipeAt(middle);
      if (entering(recipe) <= average) [high, best] = [middle, recipe];
      else low = middle;
    }
    return { method: 'fitprune', recipe: trimmed(best, average, facts), patches };
  },
};

/** A pruner of one sequence that is asked behind every attention. */
function asked(afterAttention: NonNullable<PruningRun['afterAttention']>): Pruner {
  return {
    name: 'fitprune',
    textDependent: true,
    positions: 'keep',
    needs: () => ({ attention: [] }),
    enteringTokens: () => undefined,
    begin: () => ({ afterAttention, dispose() {} }),
  };
}

async function receivedBy(set: TuneSet, prompt: EncodedRequest): Promise<Received[]> {
  const received: Received[] = [];
  const pruner = asked(async (view) => {
    const { own, cross } = await fitPruneScores(view);
    received.push({ own: total(own), cross: total(cross) });
    return undefined;
  });
  await set.run(prompt, pruner, () => Promise.resolve());
  return received;
}

/** How many tokens go in each block at a tolerance. */
async function deletedBy(set: TuneSet, prompt: EncodedRequest, whole: readonly Received[], alpha: number): Promise<number[]> {
  const deleted: number[] = [];
  const pruner = asked(async (view: DecoderView) => {
    const { own, cross } = await fitPruneScores(view);
    const { own: ownBefore, cross: crossBefore } = whole[view.block] as Received;
    const expendable = expendableTokens(own, ownBefore * (1 - alpha));
    const both = expendableTokens(cross, crossBefore * (1 - alpha));
    const keep = Int32Array.from(view.visualRows.keys()).filter((token) => !(expendable.has(token) && both.has(token)));
    deleted.push(view.visualRows.length - keep.length);
    return keep.length === view.visualRows.length ? undefined : { keep };
  });
  await set.run(prompt, pruner, () => Promise.resolve());
  return deleted;
}

/** The longest run of the least scored tokens, never all, without which the others still have `least` together. */
function expendableTokens(scores: Float32Array, least: number): Set<number> {
  const order = Array.from(scores.keys()).sort((a, b) => (scores[a] as number) - (scores[b] as number) || b - a);
  let left = total(scores);
  let count = 0;
  while (count < order.length - 1 && left - (scores[order[count] as number] as number) >= least) left -= scores[order[count++] as number] as number;
  return new Set(order.slice(0, count));
}

function total(scores: Float32Array): number {
  return scores.reduce((sum, score) => sum + score, 0);
}

function cropsOf({ images }: EncodedRequest): number {
  return images.reduce((sum, { crops }) => sum + crops.length, 0);
}

/** Takes back deletions, the last first, while the average stays at or below the one that was asked for. The last block's have no effect on it. */
function trimmed(recipe: readonly number[], average: number, { patches, decoderBlocks }: BudgetFacts): number[] {
  const result = [...recipe];
  for (let block = decoderBlocks - 2; block >= 0; block--) {
    const room = (average - mean(leftBefore(result, patches))) * decoderBlocks;
    const back = Math.min(result[block] as number, Math.max(0, Math.floor(room / (decoderBlocks - 1 - block) + 1e-9)));
    result[block] = (result[block] as number) - back;
  }
  return result;
}
