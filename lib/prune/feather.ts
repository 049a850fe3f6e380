import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { checkScores, fraction, wholeNumber } from './checks';
import { checkDepth, checkLayers, scaledLayers } from './depth';
import type { Method } from './method';
import { descendingOrder, highest } from './ranking';
import { checkRatios, enteringByStage, gentlest, mean, nearestKnob } from './stages';
import type { DecoderView, Grid } from './types';

/** Blocks of 32, and earlier ones for averages that these can't reach. */
const LAYERS = [8, 16];
const EARLIER = [
  [2, 8],
  [1, 4],
];
const REMOVED = 0.7;
const STRIDE = 3;
/** Below this share, earlier layers are the better way to a small average. */
const LEAST_SHARE = 0.2;

export interface FeatherOptions {
  readonly method: 'feather';
  /** Two 0-based blocks before which tokens are dropped, ascending, from 1; default: 8 and 16 of 32, by the decoder's depth. */
  readonly layers?: readonly number[];
  /** r: the share that attention lets go at the first layer, at the second 1 - (1 - r)^2 of what is left; from 0 to below 1, default 0.7. */
  readonly removed?: number;
  /** In place of `removed`: the share of all visual tokens that is left behind each layer; the grid is part of the first. */
  readonly ratios?: readonly number[];
  /** Every which patch of every which row is on the uniform grid; default 3. */
  readonly stride?: number;
}

/**
 * FEATHER (Endo et al., ICCV 2025, https://arxiv.org/abs/2412.13180): FastV's choice without its preference for the end of the image. Before an early block those
 * visual tokens stay to which the prompt's last token attends most in the block before, with queries and keys that are not turned by their positions, and
 * with them a uniform grid of patches; before a later block, of these, the most attended again, fewer. Positions are kept.
 */
export const featherMethod: Method<FeatherOptions> = {
  options: ['layers', 'removed', 'ratios', 'stride'],
  about: {
    title: 'FEATHER',
    acts: 'in the decoder, before blocks 8 and 16 of 32, once in prefill',
    reads:
      'attention of the last prompt token without position embedding in the block before, softmaxed over visual tokens, mean of heads; the grid of patches',
    entering:
      'N; from the first layer the union of int(N (1 - r)) tokens and a grid of about N / 9, n; from the second int(n (1 - r)^2). With `ratios` N r_1, N r_2',
    source: 'Endo et al., ICCV 2025, [arXiv 2412.13180](https://arxiv.org/abs/2412.13180); markendo/FEATHER @ c2a09b27',
    grade: 'exact',
    differences: [
      'With `ratios`, the most attended tokens fill up what the grid leaves of a fixed count, so that budgets can be equal; the released code lets the size of the union vary.',
      'Layers are scaled to the depth of the decoder. For another average, shares are those that r would leave if grid and attention chose independently, at layers 2 and 8 or 1 and 4 of 32 where 8 and 16 would have to drop nearly all at once (ours).',
      'Each crop has a grid of its own, of any shape; the visual tokens of all crops are ranked together. Tokens that were merged before the decoder are on no grid.',
      'A head of whose attention nothing at all reaches visual tokens in float32 counts for nothing.',
      'Of equal attention, the earlier token is kept. At least one token stays.',
    ],
  },
  example: { method: 'feather', removed: 0.7 },
  forAverage(average, { patches, decoderBlocks }) {
    if (average >= patches) return { method: 'feather', ratios: [1, 1] };
    const ratiosAt = (kept: number) => {
      const first = kept + (1 - kept) / STRIDE ** 2;
      return [first, first * kept ** 2].map((share) => Math.max(share, 1e-6));
    };
    const tries = [LAYERS, ...EARLIER].map((published, i) => {
      const layers = scaledLayers(published, decoderBlocks);
      if (layers.length < (i === 0 ? 1 : 2)) return undefined;
      const knob = nearestKnob(average, 0.75, (share) => mean(enteringByStage(patches, decoderBlocks, layers, countsOf(ratiosAt(share), patches))));
      return knob === undefined
        ? undefined
        : { knob, options: { method: 'feather', ...(i === 0 ? {} : { layers }), ratios: ratiosAt(knob) } as const };
    });
    return gentlest(tries, LEAST_SHARE);
  },
  create({ layers: given, removed, ratios, stride: every = STRIDE }) {
    if (removed !== undefined && ratios !== undefined) {
      throw new PruneError('BUDGET_AMBIGUOUS', 'Both "removed" and "ratios" are given. Give one of them.');
    }
    const own = given === undefined ? undefined : checkLayers(given, 'layers', 1);
    if (own && own.length !== LAYERS.length) {
      throw new PruneError('LAYER_INVALID', `Option "layers" has ${own.length} layers. FEATHER has two.`);
    }
    if (ratios !== undefined) checkRatios(ratios, 'ratios', LAYERS.length);
    const kept = 1 - fraction(removed ?? REMOVED, 'removed', 'KEEP_RATIO_INVALID', true);
    const stride = wholeNumber(every, 'stride', 'STEP_INVALID', 1);
    const layersOf = (blocks: number) => {
      const layers = own ?? scaledLayers(LAYERS, blocks);
      checkDepth(layers, 'layers', blocks, blocks - 1);
      return layers;
    };
    return {
      name: 'feather',
      textDependent: true,
      positions: 'keep',
      needs: () => ({ attention: [], blockInput: true }),
      enteringTokens: (patches, decoderBlocks) =>
        ratios && enteringByStage(patches, decoderBlocks, layersOf(decoderBlocks), countsOf(ratios, patches)),
      begin({ patchesPerCrop, grids, decoderBlocks }) {
        const layers = layersOf(decoderBlocks);
        const counts =
          ratios && LAYERS.map((_, stage) => patchesPerCrop.reduce((sum, patches) => sum + (countsOf(ratios, patches)[stage] as number), 0));
        return {
          async beforeBlock(view) {
            const stage = layers.indexOf(view.block);
            const current = view.visualRows.length;
            if (stage < 0 || (counts && (counts[stage] as number) >= current)) return undefined;
            const scores = await unturnedAttention(view);
            const most = counts?.[stage] ?? Math.max(1, Math.floor(current * kept ** (stage + 1) + 1e-9));
            if (stage === 1) return { keep: highest(scores, most) };
            const grid = onGrid(view, grids, stride);
            return { keep: counts ? withGrid(scores, grid, most) : union(highest(scores, most), grid) };
          },
          dispose() {},
        };
      },
    };
  },
};

/** Of the last row in the block that ran last, over visual tokens alone, [n]. */
async function unturnedAttention(view: DecoderView): Promise<Float32Array> {
  const { sequenceLength, visualRows } = view;
  const isVisual = new Float32Array(sequenceLength);
  for (const row of visualRows) isVisual[row] = 1;
  const shares = tf.tidy(() => {
    const row = tf.squeeze(view.attentionRows(view.block - 1, Int32Array.of(sequenceLength - 1), { rotary: false }), [1]); // [heads, S]
    const visual = tf.mul(row, tf.tensor1d(isVisual));
    return tf.mean(tf.div(visual, tf.maximum(tf.sum(visual, 1, true), 1e-37)), 0); // [S]
  });
  try {
    const values = (await shares.data()) as Float32Array;
    const scores = Float32Array.from(visualRows, (row) => values[row] as number);
    checkScores(scores);
    return scores;
  } finally {
    shares.dispose();
  }
}

/** Which of the current visual tokens lie on the uniform grid of their crop, ascending. */
function onGrid({ originalIndices, origins }: DecoderView, grids: readonly Grid[], stride: number): Int32Array {
  return Int32Array.from(originalIndices.keys()).filter((token) => {
    const original = originalIndices[token] as number;
    const patch = origins.patches[original] ?? -1;
    const columns = grids[origins.crops[original] ?? -1]?.columns;
    return patch >= 0 && columns !== undefined && (patch % columns) % stride === 0 && Math.floor(patch / columns) % stride === 0;
  });
}

function union(some: Int32Array, others: Int32Array): Int32Array {
  return Int32Array.from(new Set([...some, ...others])).sort();
}

/** The grid, or the most attended of it, and the most attended others: `count` tokens, ascending. */
function withGrid(scores: Float32Array, grid: Int32Array, count: number): Int32Array {
  const first = new Set(grid);
  const order = descendingOrder(scores);
  return Int32Array.of(...order.filter((token) => first.has(token)), ...order.filter((token) => !first.has(token)))
    .subarray(0, count)
    .sort();
}

function countsOf(ratios: readonly number[], patches: number): number[] {
  return ratios.map((ratio) => Math.max(1, Math.round(patches * ratio)));
}
