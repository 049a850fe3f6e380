import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import type { EncodedRequest } from '../llava';
import { Pacer, type Pause } from '../pacer';
import { wholeTokens } from '../prune/budget';
import { descendingOrder } from '../prune/ranking';
import { cosineSimilarity } from '../prune/similarity';
import type { Grid, Pruner, VisionView } from '../prune/types';
import { densityPeaks } from './density_peaks';
import { searchNumber } from './options';
import type { TuneSet } from './tune_set';
import type { Tuner } from './tuner';

/** Weight of what a token's block changes in the whole image, against what the token changes in its block. */
const GLOBAL_WEIGHT = 16;
/** Best logits over which the next token's probability is taken. */
const BEST = 50;
/** Best logits over which two distributions are compared. */
const COMPARED = 10;
/** Images that the published clusters of the pool are for. */
const PUBLISHED_IMAGES = 500;
const POOLED_CLUSTERS = 64;

/** What one probed token does to the answer. */
interface Probe {
  readonly image: number;
  /** [D] */
  readonly token: Float32Array;
  /** Probability of the likeliest next token when the decoder sees this visual token alone. */
  readonly alone: number;
  /** How much the next token's distribution changes without it. */
  readonly divergence: number;
}

/**
 * The codebook of 'Beyond Intermediate States' (https://arxiv.org/abs/2503.20540): visual tokens are redundant from which alone the decoder can tell nothing
 * (its likeliest next token stays below `p1`) and which it does not miss (the distribution of the next token diverges by less than `divergence` without
 * them, in their 3 x 3 block and, weighed by 16, with the block in the whole image). Of each image those stay that lie in small clusters of its probed
 * tokens, of all images those in clusters that many images share.
 *
 * Differs from the reference: prompts are the samples', where the authors ask for a description in one word; the word that takes a token's place is the
 * vocabulary's token `pad`, by default 0. Which tokens of an image they probe is not public but for the rank by which they go (similarity to the class
 * token): here `probe` of them, evenly over the ranks. The pool's clusters are 64 for 500 images, and in proportion for fewer; a cluster stays when more
 * than 64 of 500 images share it. Density peaks as in `densityPeaks`. Values are rounded to five digits.
 */
export const tunePrototypes: Tuner = {
  about: 'a codebook of redundant visual tokens',
  options: {
    probe: 'tokens that are looked at of each image (default: 32)',
    p1: "largest probability of the next token from a redundant token alone (default: 0.15, LLaVA-1.5's)",
    divergence: "largest change that a redundant token's absence makes (default: 0.002, LLaVA-1.5's)",
    clusters: 'clusters of the tokens of one image (default: 8)',
    largest: 'tokens in a cluster of one image whose redundant ones are kept, at most (default: 8)',
    pooled: `clusters of all images' redundant tokens (default: ${POOLED_CLUSTERS} for ${PUBLISHED_IMAGES} images)`,
    coverage: 'share of the images that a kept cluster of them exceeds (default: 0.128)',
    pad: 'token of the vocabulary that takes the place of a visual token (default: 0)',
  },
  budget: true,
  needs: () => ({ attention: [], classToken: true }),
  async search(set, { average, options, progress }) {
    const whole = (name: string, usual: number, least = 1) => searchNumber(options, name, usual, { least, whole: true });
    const images = set.prompts.length;
    const settings = {
      probe: Math.min(whole('probe', 32), set.facts.patches),
      p1: searchNumber(options, 'p1', 0.15, { least: 0, most: 1 }),
      divergence: searchNumber(options, 'divergence', 2e-3, { least: 0 }),
      clusters: whole('clusters', 8),
      largest: whole('largest', 8),
      pooled: whole('pooled', Math.max(1, Math.round((POOLED_CLUSTERS * images) / PUBLISHED_IMAGES))),
      coverage: searchNumber(options, 'coverage', POOLED_CLUSTERS / PUBLISHED_IMAGES, { least: 0, most: 1 }),
      pad: searchNumber(options, 'pad', 0, { least: 0, most: set.llava.language.shape.vocab_size - 1, whole: true }),
    };
    const { pause } = new Pacer();
    const probes: Probe[] = [];
    const pool: Probe[] = [];
    let done = 0;
    for (const [image, prompt] of set.prompts.entries()) {
      const found = await probeImage(set, prompt, image, settings, () => progress(++done, images * settings.probe));
      probes.push(...found);
      pool.push(...(await ofSmallClusters(found, settings, pause)));
    }
    const kept = await ofSharedClusters(pool, images, settings, pause);
    if (kept.length === 0) throw nothing(probes, pool, settings);
    return { method: 'prototypes', prototypes: kept.map(({ token }) => Array.from(token, rounded)), tokens: wholeTokens(average) };
  },
};

interface Settings {
  readonly probe: number;
  readonly p1: number;
  readonly divergence: number;
  readonly clusters: number;
  readonly largest: number;
  readonly pooled: number;
  readonly coverage: number;
  readonly pad: number;
}

function isRedundant({ alone, divergence }: Probe, settings: Settings): boolean {
  return alone < settings.p1 && divergence < settings.divergence;
}

async function probeImage(set: TuneSet, prompt: EncodedRequest, image: number, { probe, pad }: Settings, next: () => void): Promise<Probe[]> {
  const tokens = new ShownTokens(set.llava.language.embed(Int32Array.of(pad)));
  try {
    const see = (patches?: Int32Array, padded: readonly number[] = []) => set.logProbabilities(prompt, tokens.showing(patches, padded));
    const full = await see();
    const { order, grid, projected, width } = tokens;
    const probes: Probe[] = [];
    for (let i = 0; i < probe; i++) {
      const token = order[Math.floor(((i + 0.5) * order.length) / probe)] as number; // evenly over the ranks
      const block = blockAround(token, grid);
      const alone = likeliest(await see(Int32Array.of(token)));
      const context = divergence(await see(block), await see(block, [token]));
      const whole = divergence(full, await see(undefined, Array.from(block)));
      probes.push({ image, token: projected.slice(token * width, (token + 1) * width), alone, divergence: context + GLOBAL_WEIGHT * whole });
      next();
    }
    return probes;
  } finally {
    tokens.dispose();
  }
}

/** One image's visual tokens, of which runs of its prompt show some, and the pad word's embedding in the place of others. */
class ShownTokens {
  order: Int32Array = new Int32Array(0);
  grid: Grid = { rows: 0, columns: 0 };
  projected: Float32Array = new Float32Array(0);
  width = 0;
  private tokens: tf.Tensor2D | undefined;

  /** @param pad [1, D]; handed over */
  constructor(private readonly pad: tf.Tensor2D) {}

  /** A pruner that shows these patches (all, unless they are named), those in `padded` replaced. */
  showing(patches: Int32Array | undefined, padded: readonly number[]): Pruner {
    return {
      name: 'prototypes',
      textDependent: true,
      positions: 'compact',
      needs: () => ({ attention: [], classToken: true }),
      enteringTokens: () => undefined,
      begin: () => ({
        select: async (view) => {
          const tokens = await this.of(view);
          const size = tokens.shape[0];
          const kept = patches ?? Int32Array.from({ length: size }, (_, i) => i);
          const rows = kept.map((patch) => (padded.includes(patch) ? size : patch));
          const shown = tf.tidy(() => tf.gather(tf.concat([tokens, this.pad], 0), tf.tensor1d(rows, 'int32')));
          return { kept, merged: { tokens: shown, space: 'projected', members: Array.from(kept, (patch) => Int32Array.of(patch)) } };
        },
        dispose() {},
      }),
    };
  }

  /** Projected tokens [N, D], noted at the first run, with the order of their similarity to the class token. */
  private async of(view: VisionView): Promise<tf.Tensor2D> {
    if (this.tokens) return this.tokens;
    this.tokens = tf.clone(await view.projected());
    this.grid = view.grid;
    this.width = this.tokens.shape[1];
    this.projected = Float32Array.from(await this.tokens.data());
    const similarity = await cosineSimilarity(view.features, view.pause, view.classToken());
    this.order = descendingOrder((await similarity.data()) as Float32Array);
    similarity.dispose();
    return this.tokens;
  }

  dispose(): void {
    this.pad.dispose();
    this.tokens?.dispose();
  }
}

/** The 3 x 3 patches around one, moved inward at the border, ascending. */
export function blockAround(patch: number, { rows, columns }: Grid): Int32Array {
  const begin = (at: number, size: number) => Math.max(0, Math.min(at - 1, size - 3));
  const [top, left] = [begin(Math.floor(patch / columns), rows), begin(patch % columns, columns)];
  const found: number[] = [];
  for (let row = top; row < Math.min(top + 3, rows); row++)
    for (let column = left; column < Math.min(left + 3, columns); column++) found.push(row * columns + column);
  return Int32Array.from(found);
}

/** The largest probability when the 50 best of these log-probabilities are all there is. */
export function likeliest(logProbabilities: Float32Array): number {
  const best = descendingOrder(logProbabilities).subarray(0, BEST);
  return Math.max(...softmaxOver(logProbabilities, best));
}

/**
 * How far two distributions are apart, given as log-probabilities: over the 10 likeliest tokens of the first, with M the mean of the two,
 * (KL(M || p) + KL(M || q)) / 2, and not their sum over the tokens but their mean, as the released code has it.
 */
export function divergence(first: Float32Array, second: Float32Array): number {
  const places = descendingOrder(first).subarray(0, COMPARED);
  const [p, q] = [softmaxOver(first, places), softmaxOver(second, places)];
  const sum = p.reduce((before, value, i) => {
    const other = q[i] as number;
    const mean = (value + other) / 2;
    return before + mean * (2 * Math.log(mean) - Math.log(value) - Math.log(other));
  }, 0);
  return sum / 2 / places.length;
}

/** Never 0: a logarithm follows. */
function softmaxOver(logProbabilities: Float32Array, places: Int32Array): number[] {
  const most = logProbabilities[places[0] as number] as number;
  const weights = Array.from(places, (place) => Math.exp(Math.max(-700, (logProbabilities[place] as number) - most)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

async function clustersOf(probes: readonly Probe[], count: number, pause: Pause): Promise<Int32Array> {
  if (probes.length === 0) return new Int32Array(0);
  const points = tf.tidy(() => tf.stack(probes.map(({ token }) => tf.tensor1d(token)))) as tf.Tensor2D;
  try {
    return await densityPeaks(points, count, pause);
  } finally {
    points.dispose();
  }
}

async function ofSmallClusters(probes: readonly Probe[], settings: Settings, pause: Pause): Promise<Probe[]> {
  const clusters = await clustersOf(probes, settings.clusters, pause);
  const sizes = new Int32Array(settings.clusters);
  for (const cluster of clusters) sizes[cluster] = (sizes[cluster] as number) + 1;
  return probes.filter((probe, i) => isRedundant(probe, settings) && (sizes[clusters[i] as number] as number) <= settings.largest);
}

async function ofSharedClusters(pool: readonly Probe[], images: number, { pooled, coverage }: Settings, pause: Pause): Promise<Probe[]> {
  const clusters = await clustersOf(pool, pooled, pause);
  const sharing = Array.from({ length: pooled }, () => new Set<number>());
  for (const [i, { image }] of pool.entries()) sharing[clusters[i] as number]?.add(image);
  return pool.filter((_, i) => (sharing[clusters[i] as number] as Set<number>).size > coverage * images);
}

function nothing(probes: readonly Probe[], pool: readonly Probe[], settings: Settings): PruneError {
  const redundant = probes.filter((probe) => isRedundant(probe, settings)).length;
  if (pool.length > 0) {
    return new PruneError(
      'SEARCH_EMPTY',
      `${redundant} of ${probes.length} probed tokens are redundant and ${pool.length} lie in small clusters, but none in a cluster that more than ${settings.coverage} of the images share. Give more samples, a lower coverage, or fewer pooled clusters.`,
    );
  }
  if (redundant > 0) {
    return new PruneError(
      'SEARCH_EMPTY',
      `${redundant} of ${probes.length} probed tokens are redundant, but all lie in clusters of more than ${settings.largest} tokens of their image. Give a higher "largest" or more "clusters".`,
    );
  }
  const median = (values: number[]) => (values.sort((a, b) => a - b)[Math.floor(values.length / 2)] as number).toPrecision(2);
  const [alone, apart] = [probes.map((one) => one.alone), probes.map((one) => one.divergence)];
  return new PruneError(
    'SEARCH_EMPTY',
    `None of ${probes.length} probed tokens has p1 < ${settings.p1} (least ${Math.min(...alone).toPrecision(2)}, median ${median(alone)}) and divergence < ${settings.divergence} (least ${Math.min(...apart).toPrecision(2)}, median ${median(apart)}). Raise them (p1, divergence).`,
  );
}

function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
