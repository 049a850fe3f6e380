import * as tf from '@tensorflow/tfjs';
import { attentionProbabilities } from '../../layers/attention';
import { PruneError } from '../../layers/errors';
import { inSteps } from '../backend/step';
import { BUDGET_OPTIONS, type Budget, tokenCount } from './budget';
import { flag, show } from './checks';
import { checkDepth, checkLayers, scaledLayers } from './depth';
import type { Grid } from './grid';
import { cellCount, importanceMap, recycle } from './importance_flow';
import type { BudgetFacts, Method } from './method';
import { highest } from './ranking';
import { enteringByStage, mean, nearestKnob } from './stages';
import type { EncoderFacts, PruningRun, Selection, VisionView } from './types';
import { weightedSums } from './weighted_sums';

/** Blocks of 28 before which tokens are dropped, as of 32. */
const LAYERS = [(9 * 32) / 28, (18 * 32) / 28];

/** What its authors' search found for 50, 25 and 10% of the tokens, with cells of a grid of 27 x 27. */
const PUBLISHED = [
  { share: 0.5, stageRatios: [0.749, 0.487], threshold: 28.7, cellShare: 11.8 / 27 },
  { share: 0.25, stageRatios: [0.983, 0.877], threshold: 34.8, cellShare: 15.6 / 27 },
  { share: 0.1, stageRatios: [1, 0.601], threshold: 39.3, cellShare: 17.4 / 27 },
] as const;
const DEFAULTS = PUBLISHED[1];

/** The budget is T, what enters the decoder of a crop. */
export type VFlowOptOptions = {
  readonly method: 'vflowopt';
  /** For each stage inside the decoder, the share that it keeps of what reached it, above 0, at most 1; default [0.983, 0.877], as published for 25%. */
  readonly stageRatios?: readonly number[];
  /** 0-based blocks of this decoder before which a stage drops, ascending; default 9 and 18 of 28, by its depth. */
  readonly layers?: readonly number[];
  /** A patch calibrates when it receives more than this many times the mean attention; 0 or more, default 34.8. */
  readonly threshold?: number;
  /** Patches along a side of a cell, 1 or more, not necessarily whole; default 15.6 of 27. */
  readonly cell?: number;
  /** Whether patches that do not stay are merged by cells; default true. */
  readonly recycle?: boolean;
} & Budget;

/**
 * VFlowOpt (Yang et al., ICCV 2025, https://arxiv.org/abs/2508.05211). A patch is as important as the patches that receive most attention find it
 * (`importanceMap`). Behind the projector the less important ones are merged by the cells of a coarse grid (`recycle`); in two stages inside the decoder
 * the least important tokens that are left are dropped, by the same importance. Its parameters are searched for a model and a budget: `vispruner tune vflowopt`.
 */
export const vFlowOptMethod: Method<VFlowOptOptions> = {
  options: [...BUDGET_OPTIONS, 'stageRatios', 'layers', 'threshold', 'cell', 'recycle'],
  about: {
    title: 'VFlowOpt',
    acts: 'between projector and decoder, each crop by itself (merges); in the decoder before blocks 9 and 18 of 28',
    reads: 'attention among the patches in the feature block, averaged over heads',
    training: 'a search of its parameters, `vispruner tune vflowopt`; the defaults are those published for 25% of another model',
    entering: 'T, then n - round(n (1 - r)) at each stage of kept share r; (9 T + 9 T r_1 + 10 T r_1 r_2) / 28 on average, but for rounding',
    source: 'Yang et al., ICCV 2025, [arXiv 2508.05211](https://arxiv.org/abs/2508.05211); sihany077/VFlowOpt @ 129eeefb',
    grade: 'paper',
    differences: [
      'As few patches are merged as leave T tokens exactly. The released code merges a number of them fixed beforehand, so that its count varies, and only where an image has several crops; `recycle: false` is what it does with one.',
      "The entropy of a patch's pixels, which has weight 0 in every published setting, is left out.",
      'CLIP has a class token, SigLIP has none: its row and column are left out of the map, behind the softmax.',
      'Where no patch receives more than the threshold, all of them calibrate; the released code divides by zero. In small grids, and in encoders without patches that draw attention from everywhere, the published thresholds are never passed.',
      'Cells are given in patches and scaled from the published grid of 27 x 27; layers are scaled to the depth of the decoder.',
      'Options for an average take the published ratios of the nearest of 50, 25 and 10%, and solve T for it; above what T = N gives, the ratios are raised (ours).',
      'Inside the decoder the tokens of several crops are ranked together, for the sum of their counts. A merged token is as important as the patch in whose place it stands. Of equal importance, the lower index stays.',
    ],
  },
  example: { method: 'vflowopt', tokens: 64, stageRatios: [0.983, 0.877] },
  forAverage,
  create(options) {
    const count = tokenCount(options);
    const { threshold = DEFAULTS.threshold, cell, layers: given, stageRatios } = options;
    const own = given === undefined ? undefined : checkLayers(given, 'layers', 1);
    const ratios = checkStageRatios(stageRatios ?? DEFAULTS.stageRatios, (own ?? LAYERS).length);
    const merges = flag(options.recycle ?? true, 'recycle');
    const calibrating = atLeast(threshold, 'threshold', 0);
    if (cell !== undefined) atLeast(cell, 'cell', 1);
    const cellOf = ({ rows, columns }: Grid) => cell ?? Math.max(1, DEFAULTS.cellShare * Math.max(rows, columns));
    const layersOf = (blocks: number) => {
      const layers = own ?? vFlowOptLayers(blocks);
      checkDepth(layers, 'layers', blocks, blocks - 1);
      return layers;
    };
    return {
      name: 'vflowopt',
      textDependent: false,
      positions: 'keep',
      needs: ({ featureBlock }) => ({ attention: [], projections: [featureBlock] }),
      enteringTokens(patches, blocks) {
        const layers = layersOf(blocks);
        const tokens = count(patches);
        return enteringByStage(tokens, blocks, layers, stageCounts(tokens, ratios.slice(0, layers.length)));
      },
      begin({ encoder, decoderBlocks, patchesPerCrop, grids }) {
        const layers = layersOf(decoderBlocks);
        const tokens = patchesPerCrop.map(count);
        for (const [crop, grid] of grids.entries()) if (merges) checkCells(tokens[crop]!, patchesPerCrop[crop]!, grid, cellOf(grid));
        const left = tokens.map((kept) => stageCounts(kept, ratios.slice(0, layers.length)));
        const counts = layers.map((_, stage) => left.reduce((sum, one) => sum + one[stage]!, 0));
        const select = (view: VisionView) =>
          selectCrop(view, encoder, {
            tokens: count(view.grid.rows * view.grid.columns),
            threshold: calibrating,
            cell: merges ? cellOf(view.grid) : 0,
          });
        return flowRun(layers, counts, select);
      },
    };
  },
};

interface FlowSelection {
  readonly selection: Selection;
  /** Of each token of the selection, in order. */
  readonly importance: Float32Array;
}

function flowRun(layers: readonly number[], counts: readonly number[], select: (view: VisionView) => Promise<FlowSelection>): PruningRun {
  const importance: number[] = []; // of all visual tokens that enter the decoder
  return {
    async select(view) {
      const found = await select(view);
      importance.push(...found.importance);
      return found.selection;
    },
    beforeBlock(view) {
      const stage = layers.indexOf(view.block);
      if (stage < 0 || counts[stage]! >= view.visualRows.length) return Promise.resolve(undefined);
      const scores = Float32Array.from(view.originalIndices, (token) => importance[token]!);
      return Promise.resolve({ keep: highest(scores, counts[stage]!) });
    },
    dispose() {},
  };
}

async function selectCrop(
  view: VisionView,
  { featureBlock, heads, hasClassToken }: EncoderFacts,
  { tokens, threshold, cell }: { readonly tokens: number; readonly threshold: number; readonly cell: number },
): Promise<FlowSelection> {
  const { queries, keys } = view.projections(featureBlock);
  const [rows, width] = queries.shape;
  const first = hasClassToken ? 1 : 0;
  const size = rows - first;
  const shape = { heads, keyValueHeads: heads, headDim: width / heads };
  const map = await inSteps(
    size,
    4 * width * rows,
    (start, length) => {
      const asking = tf.slice(queries, [first + start, 0], [length, -1]);
      const whole = tf.mean(attentionProbabilities(asking, keys, shape), 0) as tf.Tensor2D; // [length, rows]
      return tf.slice(whole, [0, first], [-1, size]);
    },
    view.pause,
  );
  const attention = (await map.data().finally(() => map.dispose())) as Float32Array;
  const importance = importanceMap(attention, size, threshold);
  if (cell === 0 || tokens === size) {
    const kept = highest(importance, tokens);
    return { selection: { kept }, importance: Float32Array.from(kept, (patch) => importance[patch]!) };
  }
  const sums = recycle(importance, view.grid, cell, tokens);
  const kept = Int32Array.from(sums, (sum) => sum.rows[0]!);
  const merged = {
    tokens: await weightedSums(await view.projected(), sums, view.pause),
    space: 'projected' as const,
    members: sums.map((sum) => sum.rows),
  };
  return { selection: { kept, merged }, importance: Float32Array.from(kept, (patch) => importance[patch]!) };
}

/** The blocks of a decoder before which its stages drop. */
export function vFlowOptLayers(blocks: number): readonly number[] {
  return scaledLayers(LAYERS, blocks);
}

/** What each stage leaves of those that enter the decoder. */
function stageCounts(tokens: number, ratios: readonly number[]): number[] {
  let left = tokens;
  return ratios.map((ratio) => {
    left = Math.max(1, left - Math.round(left * (1 - ratio)));
    return left;
  });
}

function forAverage(average: number, { patches, decoderBlocks }: BudgetFacts): VFlowOptOptions | undefined {
  const method = 'vflowopt' as const;
  const layers = vFlowOptLayers(decoderBlocks);
  if (average >= patches || layers.length === 0) return average >= patches ? { method, tokens: patches, stageRatios: [1, 1] } : undefined;
  const distance = ({ share }: (typeof PUBLISHED)[number]) => Math.abs(Math.log(average / patches / share));
  const { stageRatios, threshold, cellShare } = [...PUBLISHED].sort((a, b) => distance(a) - distance(b))[0]!;
  const averageOf = (tokens: number, ratios: readonly number[]) =>
    mean(enteringByStage(tokens, decoderBlocks, layers, stageCounts(tokens, ratios.slice(0, layers.length))));
  const side = Math.sqrt(patches);
  const cell = Math.max(1, cellShare * side);
  const tokens = nearestTokens(average, patches, (count) => averageOf(count, stageRatios));
  const coarse = cellCount({ rows: side, columns: side }, cell) <= tokens ? { cell } : { recycle: false };
  const options = { method, tokens, stageRatios, threshold, ...coarse };
  if (Math.abs(averageOf(tokens, stageRatios) - average) <= 0.5) return options;
  const raised = (knob: number) => stageRatios.map((ratio) => ratio + knob * (1 - ratio));
  const knob = nearestKnob(average, 0.5, (value) => averageOf(tokens, raised(value)));
  return knob === undefined ? undefined : { ...options, stageRatios: raised(knob) };
}

/** 1 to `most`, where the average is nearest; it rises with the count. */
function nearestTokens(average: number, most: number, averageOf: (tokens: number) => number): number {
  let best = 1;
  for (let tokens = 2; tokens <= most; tokens++) {
    if (Math.abs(averageOf(tokens) - average) < Math.abs(averageOf(best) - average)) best = tokens;
  }
  return best;
}

function checkCells(tokens: number, patches: number, grid: Grid, cell: number): void {
  const cells = cellCount(grid, cell);
  if (tokens === patches || tokens >= cells) return;
  throw new PruneError(
    'METHOD_OPTION_INVALID',
    `Merging by cells of ${cell} patches a side can leave ${cells} tokens of a grid of ${grid.rows} x ${grid.columns}, and ${tokens} are to be left. Give a larger "cell", more tokens, or recycle: false.`,
  );
}

function checkStageRatios(ratios: unknown, length: number): readonly number[] {
  const list: readonly unknown[] = Array.isArray(ratios) ? ratios : [];
  if (list.length !== length || !list.every((ratio) => typeof ratio === 'number' && ratio > 0 && ratio <= 1)) {
    const given = Array.isArray(ratios) ? `[${list.map(show).join(', ')}]` : show(ratios);
    throw new PruneError('RATIOS_INVALID', `Option "stageRatios" is ${given}. Give ${length} kept shares, one a layer: above 0, at most 1.`);
  }
  return list as readonly number[];
}

function atLeast(value: unknown, name: string, least: number): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= least) return value;
  throw new PruneError('METHOD_OPTION_INVALID', `Option "${name}" is ${show(value)}. Give a number of at least ${least}.`);
}
