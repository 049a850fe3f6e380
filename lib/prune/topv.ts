import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { gatherRows, inSteps, rowsOf } from '../backend/step';
import { BUDGET_OPTIONS, type Budget, tokenCount } from './budget';
import { fraction, show, wholeNumber } from './checks';
import { scaledLayers } from './depth';
import type { Grid } from './grid';
import type { Method } from './method';
import { highest } from './ranking';
import { optimalTransport } from './transport';
import type { DecoderView, VisualOrigins } from './types';

/** Of 32. */
const LAYER = 2;

/** How dear it is to let a source stand for a target. */
export interface TopVCosts {
  /** Weight of the distance between features; default 1. */
  readonly featureWeight?: number;
  /** Weight of the distance on the grid; default 1. */
  readonly distanceWeight?: number;
  /** Weight of the source's distance from the centre of its grid; default 0.01. */
  readonly centreWeight?: number;
  /** Patches over which nearness on the grid falls off, above 0; default 10. */
  readonly sigma?: number;
}

/** The budget is what stays of each crop. */
export type TopVOptions = {
  readonly method: 'topv';
  /** 0-based block of this decoder in which tokens are dropped, between attention and MLP; default 2 of 32, by its depth. */
  readonly layer?: number;
  /** Entropic regularisation of the transport, above 0; default 0.1. */
  readonly epsilon?: number;
  /** Rounds of Sinkhorn's algorithm, 1 or more; default 3. */
  readonly iterations?: number;
  /** Share of the kept tokens that are taken evenly from among those that would go, 0 to 1; default 1/7. */
  readonly recovery?: number;
} & TopVCosts &
  Budget;

interface Settings {
  readonly featureWeight: number;
  readonly distanceWeight: number;
  readonly centreWeight: number;
  readonly sigma: number;
  readonly epsilon: number;
  readonly iterations: number;
  readonly recovery: number;
}

/**
 * Which tokens TopV keeps, by their importance: the highest, and, for coverage, `recovered` more, taken at even distances from among all others.
 *
 * @returns `tokens` indices, ascending
 */
export function topAndRecovered(importance: Float32Array, tokens: number, recovered: number): Int32Array {
  const top = highest(importance, tokens - recovered);
  const stays = new Set(top);
  const others = Int32Array.from(importance.keys()).filter((token) => !stays.has(token));
  const back = Array.from({ length: recovered }, (_, i) => others[Math.floor(((i + 0.5) * others.length) / recovered)]!);
  return Int32Array.from([...top, ...back]).sort();
}

/**
 * TopV (Yang et al., CVPR 2025, https://arxiv.org/abs/2503.18278), as far as it is public: in one early block, once in prefill, visual tokens are ranked
 * without attention. The states that enter the block are sources, what the MLP is about to read of the same tokens are targets; a token that stands for
 * many targets at little cost matters (`optimalTransport`). Some of those that would be dropped are taken back for coverage.
 */
export const topVMethod: Method<TopVOptions> = {
  options: [...BUDGET_OPTIONS, 'layer', 'featureWeight', 'distanceWeight', 'centreWeight', 'sigma', 'epsilon', 'iterations', 'recovery'],
  about: {
    title: 'TopV',
    acts: 'in decoder block 2 of 32, between attention and MLP, once in prefill',
    reads: 'states of the visual tokens entering the block, and behind its attention and second norm; places on the grid',
    entering: "N up to the block K itself, then N'; their mean is ((K + 1) N + (L - K - 1) N') / L",
    source: "Yang et al., CVPR 2025, [arXiv 2503.18278](https://arxiv.org/abs/2503.18278), by its summaries; no authors' code was found",
    grade: 'sketch',
    differences: [
      'Published are the block, the three costs, Sinkhorn with 3 rounds, and that some pruned tokens are recovered. Ours are: the weights of the costs (1, 1, 0.01), sigma (10 patches), epsilon (0.1), uniform marginals, that each cost is scaled to 0 to 1 by its smallest and largest value, and the share of recovered tokens (1/7, which is every fourth of the pruned where 40% are).',
      'How importance is read from the transport is not public. The row sums of the plan tend to the same for all, whatever the costs; here a source is as important as what it would hand out if Sinkhorn did not hold it back (its dual potential). One round is a softmax over sources.',
      'Positions are kept. Tokens of different crops are infinitely far from each other on the grid; all are ranked together.',
    ],
  },
  example: { method: 'topv', tokens: 64 },
  forAverage(average, { patches, decoderBlocks }) {
    if (average >= patches) return { method: 'topv', tokens: patches };
    const usual = scaledLayers([LAYER], decoderBlocks, 0, decoderBlocks - 2)[0] ?? -1;
    for (let layer = usual; layer >= 0; layer--) {
      const kept = Math.round((decoderBlocks * average - (layer + 1) * patches) / (decoderBlocks - layer - 1));
      if (kept >= 1) return { method: 'topv', ...(layer === usual ? {} : { layer }), tokens: Math.min(kept, patches) };
    }
    return undefined;
  },
  create(options) {
    const count = tokenCount(options);
    const given = options.layer === undefined ? undefined : wholeNumber(options.layer, 'layer', 'LAYER_INVALID', 0);
    const settings = checkSettings(options);
    const layerOf = (blocks: number) => {
      const layer = given ?? scaledLayers([LAYER], blocks, 0, blocks - 2)[0] ?? 0;
      if (layer > blocks - 2) {
        throw new PruneError(
          'LAYER_INVALID',
          `The layer is ${layer}, but the decoder has ${blocks} blocks: no block would be spared anything. Give 0 to ${blocks - 2}.`,
        );
      }
      return layer;
    };
    return {
      name: 'topv',
      textDependent: true,
      positions: 'keep',
      needs: () => ({ attention: [] }),
      enteringTokens(patches, blocks) {
        const [layer, kept] = [layerOf(blocks), count(patches)];
        return Array.from({ length: blocks }, (_, block) => (block <= layer ? patches : kept));
      },
      begin({ decoderBlocks, patchesPerCrop, grids }) {
        const layer = layerOf(decoderBlocks);
        const kept = patchesPerCrop.reduce((sum, patches) => sum + count(patches), 0);
        return {
          afterAttention: (view) =>
            view.block === layer && view.visualRows.length > kept ? reduce(view, grids, kept, settings) : Promise.resolve(undefined),
          dispose() {},
        };
      },
    };
  },
};

async function reduce(view: DecoderView, grids: readonly Grid[], kept: number, settings: Settings) {
  const cost = await featureDistances(view);
  const size = view.visualRows.length;
  const bad = cost.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new PruneError(
      'FEATURES_NOT_FINITE',
      `The states of visual token ${Math.floor(bad / size)} of ${size} in block ${view.block} hold NaN or infinity. Look for overflow in the weights.`,
    );
  }
  addCosts(cost, view.originalIndices, view.origins, grids, settings);
  await view.pause();
  const importance = optimalTransport(cost, size, settings);
  return { keep: topAndRecovered(importance, kept, Math.min(Math.round(kept * settings.recovery), size - kept)) };
}

/** Squared distance of each visual token's entering state from each one's attended state, [n, n], row-major. One download. */
async function featureDistances(view: DecoderView): Promise<Float32Array> {
  const sources = gatherRows(view.states, view.visualRows);
  const targets = gatherRows(view.attended(), view.visualRows);
  const columns = tf.tidy(() => tf.transpose(targets));
  const lengths = tf.tidy(() => tf.transpose(tf.sum(tf.square(targets), 1, true))); // [1, n]
  let distances: tf.Tensor2D | undefined;
  try {
    const [size, width] = sources.shape;
    const make = (start: number, length: number): tf.Tensor2D => {
      const rows = rowsOf(sources, start, length);
      return tf.sub(tf.add(tf.sum(tf.square(rows), 1, true), lengths), tf.mul(tf.matMul(rows, columns), 2));
    };
    distances = await inSteps(size, 2 * size * width, make, view.pause);
    return Float32Array.from((await distances.data()) as Float32Array);
  } finally {
    tf.dispose([sources, targets, columns, lengths]);
    distances?.dispose();
  }
}

/** Makes of feature distances [n, n] the whole cost of letting source i stand for target j. */
function addCosts(cost: Float32Array, tokens: Int32Array, { crops, patches }: VisualOrigins, grids: readonly Grid[], settings: Settings): void {
  const { featureWeight, distanceWeight, centreWeight, sigma } = settings;
  const size = tokens.length;
  const places = Array.from(tokens, (token) => {
    const { rows, columns } = grids[crops[token]!]!;
    const [y, x] = [Math.floor(patches[token]! / columns), patches[token]! % columns];
    return { crop: crops[token]!, y, x, fromCentre: Math.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) };
  });
  const far = Float32Array.from({ length: size * size }, (_, at) => {
    const [a, b] = [places[Math.floor(at / size)]!, places[at % size]!];
    return a.crop === b.crop ? -Math.expm1(-((a.y - b.y) ** 2 + (a.x - b.x) ** 2) / (2 * sigma * sigma)) : 1;
  });
  const centre = scaled(Float32Array.from(places, ({ fromCentre }) => fromCentre));
  scaled(cost);
  scaled(far);
  for (let at = 0; at < cost.length; at++) {
    cost[at] = featureWeight * cost[at]! + distanceWeight * far[at]! + centreWeight * centre[Math.floor(at / size)]!;
  }
}

/** Brought to 0 to 1 in place; values that are all alike become 0. */
function scaled(values: Float32Array): Float32Array {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  for (let i = 0; i < values.length; i++) values[i] = high > low ? (values[i]! - low) / (high - low) : 0;
  return values;
}

function checkSettings(options: TopVOptions): Settings {
  const { featureWeight = 1, distanceWeight = 1, centreWeight = 0.01, sigma = 10, epsilon = 0.1, iterations = 3, recovery = 1 / 7 } = options;
  return {
    featureWeight: positive(featureWeight, 'featureWeight', true),
    distanceWeight: positive(distanceWeight, 'distanceWeight', true),
    centreWeight: positive(centreWeight, 'centreWeight', true),
    sigma: positive(sigma, 'sigma', false),
    epsilon: positive(epsilon, 'epsilon', false),
    iterations: wholeNumber(iterations, 'iterations', 'METHOD_OPTION_INVALID', 1),
    recovery: fraction(recovery, 'recovery', 'METHOD_OPTION_INVALID', true),
  };
}

function positive(value: unknown, name: string, zero: boolean): number {
  if (typeof value === 'number' && Number.isFinite(value) && (zero ? value >= 0 : value > 0)) return value;
  throw new PruneError('METHOD_OPTION_INVALID', `Option "${name}" is ${show(value)}. Give a number ${zero ? 'of at least' : 'above'} 0.`);
}
