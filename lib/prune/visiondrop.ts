import * as tf from '@tensorflow/tfjs';
import { gatherRows } from '../backend/step';
import { attentionFrom } from './attention_scores';
import { BUDGET_OPTIONS, type Budget, tokenCount } from './budget';
import { checkDepth, checkLayers, scaledLayers } from './depth';
import type { BudgetFacts, Method } from './method';
import { cosineSimilarity } from './similarity';
import { checkRatios, enteringByStage, mean, nearestKnob } from './stages';
import type { DecoderView, Pruner, Reduction } from './types';
import { visionZip, visionZipMethod } from './visionzip';
import { weightedSums } from './weighted_sums';

/** Blocks of 32 before which tokens are dropped, and what is left of 48 tokens then: 30 + 5, 22 + 4, 16 + 3. */
const LAYERS = [8, 16, 24];
const RATIOS = [35 / 48, 26 / 48, 19 / 48];

/** The budget is T, what enters the decoder of a crop, all of it included. */
export type VisionDropOptions = {
  readonly method: 'visiondrop';
  /** 0-based blocks of this decoder before which tokens are dropped, ascending; default 8, 16 and 24 of 32, by its depth. */
  readonly layers?: readonly number[];
  /** The share of T that is left after each of them, above 0, at most 1, not rising; default 35/48, 26/48, 19/48. */
  readonly ratios?: readonly number[];
} & Budget;

interface Counts {
  readonly dominant: number;
  readonly contextual: number;
}

/**
 * VisionDrop (Xu et al. 2025, https://arxiv.org/abs/2506.22283): VisionZip before the projector, then the same again in stages inside the decoder, without a
 * look at the text. Before a stage's block, the visual tokens that the visual ones attend to most stay; of the others, evenly spaced ones collect those
 * whose keys resemble theirs, and follow behind. Positions are counted anew.
 */
export const visionDropMethod: Method<VisionDropOptions> = {
  options: [...BUDGET_OPTIONS, 'layers', 'ratios'],
  about: {
    title: 'VisionDrop',
    acts: 'between encoder and projector, each crop by itself; in the decoder before blocks 8, 16 and 24 of 32, once in prefill; merges in both',
    reads: 'as VisionZip; attention among the visual tokens in the block about to run, averaged over heads, and its keys',
    entering: 'T, then round(T r) for each stage of share r',
    source: 'Xu et al. 2025, [arXiv 2506.22283](https://arxiv.org/abs/2506.22283); Ruixxxx/VisionDrop @ f7a94449',
    grade: 'exact',
    differences: [
      'One setting is published: 42 + 6 tokens enter, then 30 + 5, 22 + 4 and 16 + 3 are left. Other budgets take its shares (ours): 1/8 of T, and 1/7 of what a stage leaves, rounded, are contextual.',
      'Options for an average solve T for it; above what T = N gives, the ratios are raised.',
      "Column sums over the visual rows favour early tokens, which more rows can see: as in the released code, that is not corrected. A contextual token is its target's state plus the mean of those it collects, a sum, as there.",
      'Keys are compared with their position embedding, as the block attends with them.',
      'Layers are scaled to the depth of the decoder. Inside it the tokens of several crops are judged together, for the sum of their counts. Of equal scores, the earlier token stays.',
    ],
  },
  example: { method: 'visiondrop', tokens: 48 },
  forAverage,
  create({ tokens, keepRatio, layers: given, ratios: shares }) {
    const count = tokenCount({ tokens, keepRatio });
    const own = given === undefined ? undefined : checkLayers(given, 'layers', 0);
    const ratios = shares === undefined && own === undefined ? RATIOS : checkRatios(shares ?? RATIOS, 'ratios', (own ?? LAYERS).length);
    const layersOf = (blocks: number) => {
      const layers = own ?? scaledLayers(LAYERS, blocks);
      checkDepth(layers, 'layers', blocks, blocks - 1);
      return layers;
    };
    return {
      name: 'visiondrop',
      textDependent: false,
      positions: 'compact',
      needs: (encoder) => zipOf(1).needs(encoder),
      enteringTokens(patches, blocks) {
        const layers = layersOf(blocks);
        return enteringByStage(count(patches), blocks, layers, stageTotals(count(patches), ratios.slice(0, layers.length)));
      },
      begin(request) {
        const layers = layersOf(request.decoderBlocks);
        const byCrop = request.patchesPerCrop.map((patches) => stageTotals(count(patches), ratios.slice(0, layers.length)).map(stageCounts));
        const counts = layers.map((_, stage): Counts => {
          const all = byCrop.map((one) => one[stage]!);
          const sum = (part: keyof Counts) => all.reduce((total, one) => total + one[part], 0);
          return { dominant: sum('dominant'), contextual: sum('contextual') };
        });
        return {
          select: (view) => zipOf(count(view.grid.rows * view.grid.columns)).begin(request).select!(view),
          async beforeBlock(view) {
            const stage = counts[layers.indexOf(view.block)];
            return stage && stage.dominant + stage.contextual < view.visualRows.length ? reduce(view, stage) : undefined;
          },
          dispose() {},
        };
      },
    };
  },
};

/** The part before the projector: VisionZip, with the published share of contextual tokens. */
function zipOf(tokens: number): Pruner {
  return visionZipMethod.create({ method: 'visionzip', tokens, contextual: Math.round(tokens / 8) });
}

async function reduce(view: DecoderView, counts: Counts): Promise<Reduction> {
  const scores = await attentionFrom(view, view.block, view.visualRows);
  const similarity = counts.contextual > 0 ? await keySimilarity(view) : new Float32Array(0);
  const { dominant, targets, assigned } = visionZip(scores, similarity, counts);
  if (targets.length === 0) return { keep: dominant };
  const sums = Array.from(targets, (target, i) => {
    const others = assigned[i]!;
    return { rows: Int32Array.of(target, ...others), weights: Float32Array.of(1, ...new Array<number>(others.length).fill(1 / others.length)) };
  });
  const states = gatherRows(view.states, view.visualRows);
  try {
    return { keep: dominant, merged: { states: await weightedSums(states, sums, view.pause), places: targets } };
  } finally {
    states.dispose();
  }
}

/** Cosines of the visual tokens' keys in the block about to run, averaged over heads, [n, n]. */
async function keySimilarity(view: DecoderView): Promise<Float32Array> {
  const { keyValueHeads, headDim } = view.decoder;
  const metric = tf.tidy(() => {
    const keys = tf.gather(view.keys(view.block), tf.tensor1d(view.visualRows, 'int32')); // [n, keyValueHeads * headDim]
    return tf.mean(tf.reshape(keys, [view.visualRows.length, keyValueHeads, headDim]), 1) as tf.Tensor2D;
  });
  try {
    const similarity = await cosineSimilarity(metric, view.pause);
    return (await similarity.data().finally(() => similarity.dispose())) as Float32Array;
  } finally {
    metric.dispose();
  }
}

/** What each stage leaves of T. */
function stageTotals(tokens: number, ratios: readonly number[]): number[] {
  return ratios.map((ratio) => Math.max(1, Math.round(tokens * ratio)));
}

function stageCounts(total: number): Counts {
  const contextual = Math.round(total / 7);
  return { dominant: total - contextual, contextual };
}

function forAverage(average: number, { patches, decoderBlocks }: BudgetFacts): VisionDropOptions | undefined {
  const method = 'visiondrop' as const;
  if (average >= patches) return { method, tokens: patches, ratios: RATIOS.map(() => 1) };
  const layers = scaledLayers(LAYERS, decoderBlocks);
  if (layers.length === 0) return undefined;
  const averageOf = (tokens: number, ratios: readonly number[]) =>
    mean(enteringByStage(tokens, decoderBlocks, layers, stageTotals(tokens, ratios.slice(0, layers.length))));
  let tokens = 1;
  for (let more = 2; more <= patches; more++) {
    if (Math.abs(averageOf(more, RATIOS) - average) < Math.abs(averageOf(tokens, RATIOS) - average)) tokens = more;
  }
  if (Math.abs(averageOf(tokens, RATIOS) - average) <= 0.5) return { method, tokens };
  const raised = (knob: number) => RATIOS.map((ratio) => ratio + knob * (1 - ratio));
  const knob = nearestKnob(average, 0.5, (value) => averageOf(patches, raised(value)));
  return knob === undefined ? undefined : { method, tokens: patches, ratios: raised(knob) };
}
