import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { gatherRows } from '../backend/step';
import { paced } from '../pacer';
import { show } from './checks';
import { densityPeaks } from './density_peaks';
import { checkDepth, checkLayers, scaledLayers } from './depth';
import type { Method } from './method';
import { descendingOrder } from './ranking';
import { priorityAttention, raterAttention, textRaters } from './sparsevlm_scores';
import { checkRatios, enteringByStage, gentlest, mean, nearestKnob } from './stages';
import type { DecoderView, Reduction } from './types';

/** Blocks of 32 at whose output tokens go. */
const LAYERS = [2, 6, 15];
const RANK_LAYERS = [2, 6, 15, 19];
/** For averages that these reach only by counts far below the shortest list's. */
const EARLIER = [0, 4, 13];
/** Tokens of 576 that stay behind each, by the name of the list. */
const LISTS = { 192: [300, 200, 110], 128: [303, 110, 36], 96: [238, 48, 26], 64: [66, 30, 17] } as const;
const PLUS_LISTS = { 192: [300, 200, 118], 128: [238, 108, 60], 96: [246, 54, 28], 64: [66, 34, 20] } as const;
const LIST_PATCHES = 576;
/** Version 1 keeps so many tokens of 576 for each rank. */
const SCALE = 13.5;
/** Of the deleted tokens, the share that is merged, and how many make one, about. */
const RECYCLED = 0.3;
const CLUSTER = 10;
/** Between no tokens, at 0, and the list of 64, at 0.2. */
const LEAST_PLACE = 0.15;

type ListName = keyof typeof LISTS;

export interface SparseVlmOptions {
  readonly method: 'sparsevlm';
  /** 1.5 (default): fixed counts, recycling. 'plus': SparseVLM+, corrected attention of some heads, no recycling. 1: counts by rank, recycling. */
  readonly version?: 1 | 1.5 | 'plus';
  /** 0-based blocks of this decoder at whose output tokens go, ascending, at most the one before the last; default: 2, 6, 15 of 32 by its depth, of version 1 also 19. */
  readonly layers?: readonly number[];
  /** The published list of counts; default 192. Not of version 1. */
  readonly target?: ListName;
  /** In place of `target`: the share of all visual tokens that stays at each layer, before merged ones are added. */
  readonly ratios?: readonly number[];
  /** Of version 1: int(rank * scale + bias) tokens stay. Default: 13.5 N / 576, and 0. */
  readonly scale?: number;
  readonly bias?: number;
}

/**
 * SparseVLM (Zhang et al., ICML 2025, https://arxiv.org/abs/2410.04417). From the embeddings, the text tokens behind the image that are likest to it are taken
 * as raters. At the output of a few blocks those visual tokens stay to which the raters attend most in that block; of the others the better 30% are clustered
 * by density peaks on their states, and each cluster goes on as one token, the mean, behind the visual tokens that stay. Positions are counted anew.
 * SparseVLM+ keeps positions, merges nothing, corrects attention for the pull of the rotary embedding, and reads the heads that look at the image most.
 */
export const sparseVlmMethod: Method<SparseVlmOptions> = {
  options: ['version', 'layers', 'target', 'ratios', 'scale', 'bias'],
  about: {
    title: 'SparseVLM',
    acts: 'in the decoder, at the output of blocks 2, 6 and 15 of 32, once in prefill; SparseVLM+ keeps positions',
    reads: 'embeddings (which text rows rate), then attention of these rows in the block; states of deleted tokens',
    entering:
      "N up to the first layer's block, then kept + merged of each layer; with d deleted, int((int(0.3 d) + 1) / 10) + 1 are merged ones (SparseVLM+: none)",
    source:
      'Zhang et al., ICML 2025, [arXiv 2410.04417](https://arxiv.org/abs/2410.04417); Gumpest/SparseVLMs, v1 @ 91fb6d9, v1.5 @ b9619e61, SparseVLM+ @ 26a5f488',
    grade: 'exact',
    differences: [
      'No noise is added to the densities, so that two runs agree: of equal ones, the earlier token counts as the denser.',
      'Layers are scaled to the depth of the decoder, the lists of counts to N as shares of 576, and the scale of version 1 too. A list that asks for all deletes none, where the released code deletes one.',
      'The lists are named by what their authors log; what enters the blocks is more, 206.5, 145.4, 114.1 and 82.3 tokens on average for 192, 128, 96 and 64.',
      'For another average, counts lie between those of the published lists, at earlier layers where the first blocks alone would be too much.',
      'Where one text token or none follows the image, the last token rates; where none stands out, all do.',
      'The pull of the rotary embedding is never taken for less than a tenth of its value at no distance; in the released setting it never is.',
      'The 14 priority heads of 32 are a share of the heads, chosen on corrected attention.',
      'The visual tokens of several images or crops are ranked and merged together, for the sum of their counts.',
    ],
  },
  example: { method: 'sparsevlm', target: 192 },
  forAverage(average, { patches, decoderBlocks }) {
    if (average >= patches) return { method: 'sparsevlm', ratios: LAYERS.map(() => 1) };
    const tries = [LAYERS, EARLIER].map((published, i) => {
      const layers = scaledLayers(published, decoderBlocks, 0, decoderBlocks - 2);
      if (layers.length === 0) return undefined;
      const ratiosAt = (knob: number) => listAt(knob, i === 0 ? LAYERS.length : layers.length).map((share) => shortShare(share, patches));
      const knob = nearestKnob(average, 1, (place) => mean(enteringTokens(patches, decoderBlocks, layers, ratiosAt(place), true)));
      return knob === undefined
        ? undefined
        : { knob, options: { method: 'sparsevlm', ...(i === 0 ? {} : { layers }), ratios: ratiosAt(knob) } as const };
    });
    return gentlest(tries, LEAST_PLACE);
  },
  create(options) {
    const { version = 1.5, layers: given } = options;
    checkVersion(options);
    const published = version === 1 ? RANK_LAYERS : LAYERS;
    const own = given === undefined ? undefined : checkLayers(given, 'layers', 0);
    const ratios = version === 1 ? undefined : sharesOf(options, (own ?? published).length);
    const layersOf = (blocks: number) => {
      const layers = own ?? scaledLayers(published, blocks, 0, blocks - 2);
      checkDepth(layers, 'layers', blocks, blocks - 2);
      return layers;
    };
    return {
      name: 'sparsevlm',
      textDependent: true,
      positions: version === 'plus' ? 'keep' : 'compact',
      needs: () => ({ attention: [], blockInput: true }),
      enteringTokens: (patches, decoderBlocks) =>
        ratios && enteringTokens(patches, decoderBlocks, layersOf(decoderBlocks), ratios, version !== 'plus'),
      begin({ patchesPerCrop, decoderBlocks }) {
        const layers = layersOf(decoderBlocks);
        const patches = patchesPerCrop.reduce((sum, count) => sum + count, 0);
        const keptAt = (stage: number, current: number, rank: number) => {
          if (ratios)
            return Math.min(
              current,
              patchesPerCrop.reduce((sum, count) => sum + keptOf(count, ratios[stage] as number), 0),
            );
          const { scale = (SCALE * patches) / LIST_PATCHES, bias = 0 } = options;
          return Math.max(1, Math.min(Math.floor(rank * scale + bias), current));
        };
        let raters: Int32Array = new Int32Array(0);
        return {
          async beforeBlock(view) {
            if (view.block === 0) raters = await textRaters(view);
            return undefined;
          },
          async afterBlock(view) {
            const stage = layers.indexOf(view.block);
            const current = view.visualRows.length;
            if (stage < 0 || (ratios && keptAt(stage, current, 0) === current)) return undefined;
            const { scores, rank = 0 } =
              version === 'plus' ? { scores: await priorityAttention(view, raters) } : await raterAttention(view, raters, version === 1);
            const kept = keptAt(stage, current, rank);
            return kept === current ? undefined : reduce(view, scores, kept, version !== 'plus');
          },
          dispose() {},
        };
      },
    };
  },
};

async function reduce(view: DecoderView, scores: Float32Array, kept: number, recycle: boolean): Promise<Reduction> {
  const order = descendingOrder(scores);
  const keep = order.slice(0, kept).sort();
  if (!recycle) return { keep };
  const better = order.slice(kept, kept + recycledOf(order.length - kept)); // of the deleted, the higher scores first
  const states = gatherRows(
    view.states,
    better.map((token) => view.visualRows[token] as number),
  );
  const width = states.shape[1];
  const rows = (await states.data().finally(() => states.dispose())) as Float32Array;
  const { centres, cluster } = await paced(densityPeaks(rows, width, clustersOf(better.length)), view.pause);
  return { keep, merged: { states: means(rows, width, cluster, centres.length), places: centres.map((centre) => better[centre] as number) } };
}

/** Means of the rows of each cluster, [clusters, width]. */
function means(rows: Float32Array, width: number, cluster: Int32Array, clusters: number): tf.Tensor2D {
  const sums = new Float64Array(clusters * width);
  const sizes = new Float64Array(clusters);
  for (const [i, c] of cluster.entries()) {
    sizes[c] = (sizes[c] as number) + 1;
    for (let d = 0; d < width; d++) sums[c * width + d] = (sums[c * width + d] as number) + (rows[i * width + d] as number);
  }
  return tf.tensor2d(
    Float32Array.from(sums, (sum, i) => sum / (sizes[Math.floor(i / width)] as number)),
    [clusters, width],
  );
}

function recycledOf(deleted: number): number {
  return Math.floor(RECYCLED * deleted) + 1;
}

function clustersOf(recycled: number): number {
  return Math.floor(recycled / CLUSTER) + 1;
}

function keptOf(patches: number, ratio: number): number {
  return Math.max(1, Math.round(patches * ratio));
}

function enteringTokens(patches: number, blocks: number, layers: readonly number[], ratios: readonly number[], recycle: boolean): number[] {
  let current = patches;
  const counts = layers.map((_, stage) => {
    const kept = Math.min(current, keptOf(patches, ratios[stage] as number));
    const deleted = current - kept;
    current = kept + (recycle && deleted > 0 ? clustersOf(recycledOf(deleted)) : 0);
    return current;
  });
  return enteringByStage(
    patches,
    blocks,
    layers.map((layer) => layer + 1),
    counts,
  );
}

/** Shares between those of the published lists: all at 1, the lists at 0.8, 0.6, 0.4 and 0.2, none at 0. */
function listAt(knob: number, stages: number): number[] {
  const lists = [[0, 0, 0], LISTS[64], LISTS[96], LISTS[128], LISTS[192], [LIST_PATCHES, LIST_PATCHES, LIST_PATCHES]] as const;
  const below = Math.min(lists.length - 2, Math.floor(knob * (lists.length - 1)));
  const part = knob * (lists.length - 1) - below;
  const [low, high] = [lists[below], lists[below + 1]] as readonly [readonly number[], readonly number[]];
  return low.slice(0, stages).map((count, i) => ((1 - part) * count + part * (high[i] as number)) / LIST_PATCHES);
}

/** A share that keeps the same number of tokens, in few decimals. */
function shortShare(share: number, patches: number): number {
  const kept = keptOf(patches, share);
  for (let digits = 2; digits < 8; digits++) {
    const short = Math.round((kept / patches) * 10 ** digits) / 10 ** digits;
    if (keptOf(patches, short) === kept && short > 0) return short;
  }
  return kept / patches;
}

/** @throws PruneError `RATIOS_INVALID` */
function sharesOf({ version, target, ratios }: SparseVlmOptions, stages: number): readonly number[] {
  if (ratios !== undefined) return checkRatios(ratios, 'ratios', stages);
  const lists = version === 'plus' ? PLUS_LISTS : LISTS;
  const shares = lists[target ?? 192].map((count) => count / LIST_PATCHES);
  if (stages === shares.length) return shares;
  throw new PruneError('RATIOS_INVALID', `The published lists have ${shares.length} counts, but "layers" has ${stages}. Give "ratios", one a layer.`);
}

/** @throws PruneError `VERSION_INVALID`, `BUDGET_AMBIGUOUS`, `TOKENS_INVALID`, `METHOD_OPTION_UNKNOWN` */
function checkVersion({ version = 1.5, target, ratios, scale, bias }: SparseVlmOptions): void {
  if (version !== 1 && version !== 1.5 && version !== 'plus') {
    throw new PruneError('VERSION_INVALID', `Option "version" is ${show(version)}. Give 1, 1.5 or 'plus'.`);
  }
  if (target !== undefined && ratios !== undefined)
    throw new PruneError('BUDGET_AMBIGUOUS', 'Both "target" and "ratios" are given. Give one of them.');
  if (target !== undefined && !Object.hasOwn(LISTS, target)) {
    throw new PruneError(
      'TOKENS_INVALID',
      `Option "target" is ${show(target)}. Give the name of a published list, ${Object.keys(LISTS).join(', ')}, or "ratios".`,
    );
  }
  const foreign = Object.entries(version === 1 ? { target, ratios } : { scale, bias }).find(([, value]) => value !== undefined);
  if (foreign)
    throw new PruneError('METHOD_OPTION_UNKNOWN', `Option "${foreign[0]}" is not one of SparseVLM's version ${show(version)}. Leave it out.`);
  const bad = Object.entries({ scale, bias }).find(
    ([name, value]) => value !== undefined && !(Number.isFinite(value) && (name === 'bias' || value > 0)),
  );
  if (bad) throw new PruneError('TOKENS_INVALID', `Option "${bad[0]}" is ${show(bad[1])}. Give a number${bad[0] === 'scale' ? ' above 0' : ''}.`);
}
