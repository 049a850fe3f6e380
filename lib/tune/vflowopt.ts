import { PruneError } from '../../layers/errors';
import { cellCount } from '../prune/importance_flow';
import type { BudgetFacts } from '../prune/method';
import { createPruner } from '../prune/registry';
import { type VFlowOptOptions, vFlowOptLayers } from '../prune/vflowopt';
import { searchBox } from './box_search';
import { searchNumber } from './options';
import type { TuneSet } from './tune_set';
import type { Tuner } from './tuner';

/** What its authors' search is given. */
const [CALLS, INITIAL] = [300, 27];
const MOST_THRESHOLD = 50;
/** Sides of a cell, as shares of the grid's. */
const [LEAST_CELL, MOST_CELL] = [3 / 27, 24 / 27];

/**
 * VFlowOpt's search (https://arxiv.org/abs/2508.05211): parameters for an average budget with which the last state of the prompts is most like that of the
 * unpruned model, by the sum of cosines over samples.
 *
 * Differs from the reference: a seeded random search with local refinement (`searchBox`) in place of Bayesian optimisation, because no kept library of the
 * ecosystem optimises a function that is awaited. What enters the decoder and what the first stage leaves are searched as counts between the bounds that
 * the budget sets, and the last stage is solved from it in whole tokens. Thresholds are 0 to 50 and cells 3 to 24 of 27 patches, as there; the weight of
 * the pixels' entropy is not searched: it is 0 in every published setting.
 */
export const tuneVFlowOpt: Tuner = {
  about: 'parameters with which the last state stays most like the unpruned one',
  options: {
    calls: `settings that are tried (default: ${CALLS})`,
    initial: `how many of them at random, before the search stays near the best (default: ${INITIAL})`,
    seed: 'of the search (default: 0)',
  },
  budget: true,
  needs: ({ featureBlock }) => ({ attention: [], projections: [featureBlock] }),
  async search(set, { average, options, progress }) {
    const calls = searchNumber(options, 'calls', CALLS, { least: 1, whole: true });
    const initial = searchNumber(options, 'initial', Math.min(INITIAL, calls), { least: 1, most: calls, whole: true });
    const seed = searchNumber(options, 'seed', 0, { least: 0, most: 2 ** 32 - 1, whole: true });
    const settings = settingsFor(average, set.facts);
    const total = (1 + calls) * set.prompts.length;
    let done = 0;
    const tick = () => progress(++done, total);
    const unpruned = await lastStates(set, { method: 'none' }, tick);
    const likeness = async (point: readonly number[]) => {
      const pruned = await lastStates(set, settings(point), tick);
      return pruned.reduce((sum, state, i) => sum + cosine(state, unpruned[i]!), 0);
    };
    const { point } = await searchBox(likeness, { dimensions: 4, calls, initial, seed });
    return settings(point);
  },
};

async function lastStates(set: TuneSet, options: VFlowOptOptions | { readonly method: 'none' }, tick: () => void): Promise<Float32Array[]> {
  const pruner = createPruner(options);
  const states: Float32Array[] = [];
  for (const prompt of set.prompts) {
    states.push(await set.run(prompt, pruner, async ({ state }) => (await state.data()) as Float32Array));
    tick();
  }
  return states;
}

/** Settings that meet the budget, by points of the unit cube. @throws PruneError `BUDGET_UNREACHABLE` */
export function settingsFor(average: number, { patches, decoderBlocks: blocks }: BudgetFacts): (point: readonly number[]) => VFlowOptOptions {
  const layers = vFlowOptLayers(blocks);
  const [first, second] = [layers[0] ?? blocks, layers[1] ?? blocks];
  const spans = [first, second - first, blocks - second] as const; // blocks of each stage
  const sum = average * blocks;
  const [least, most] = [Math.ceil(average), Math.min(patches, Math.floor((sum - (blocks - first)) / first))];
  if (layers.length === 0 || least > most || most < 1) {
    throw new PruneError(
      'BUDGET_UNREACHABLE',
      `An average of ${average} tokens can't be reached in ${blocks} blocks with crops of ${patches} patches. Give ${(first + blocks - first) / blocks} to ${patches}.`,
    );
  }
  const side = Math.sqrt(patches);
  return ([a = 0, b = 0, c = 0, d = 0]) => {
    const tokens = between(a, least, most);
    const rest = sum - spans[0] * tokens; // of both stages
    const lowest = Math.max(1, Math.ceil(rest / (blocks - first) - 1e-9));
    const highest = Math.min(tokens, Math.floor((rest - spans[2]) / spans[1] + 1e-9));
    const middle = layers.length < 2 ? Math.round(rest / spans[1]) : between(b, Math.min(lowest, tokens), Math.max(lowest, highest));
    const last = layers.length < 2 ? middle : Math.round((rest - spans[1] * middle) / spans[2]);
    const cell = Math.max(1, side * (LEAST_CELL + d * (MOST_CELL - LEAST_CELL)));
    const coarse = cellCount({ rows: side, columns: side }, cell) <= tokens ? { cell: rounded(cell, 2) } : { recycle: false };
    const stageRatios = [ratio(middle, tokens), ratio(last, middle)];
    return { method: 'vflowopt', tokens, stageRatios, threshold: rounded(c * MOST_THRESHOLD, 2), ...coarse };
  };
}

/** A whole number from `least` to `most`, by a share of 0 to 1. */
function between(share: number, least: number, most: number): number {
  return Math.min(most, least + Math.floor(share * (most - least + 1)));
}

/** A share in few decimals; so many that the count of up to thousands of tokens is the same. */
function ratio(count: number, of: number): number {
  return Math.min(1, rounded(Math.max(1, count) / of, 4));
}

function rounded(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (const [i, x] of a.entries()) {
    dot += x * b[i]!;
    aa += x * x;
    bb += b[i]! * b[i]!;
  }
  return dot / Math.sqrt(aa * bb);
}
