import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { textRows } from './attention_scores';
import { checkScores, flag, fraction, show } from './checks';
import { checkDepth, checkLayers, scaledLayers } from './depth';
import type { Method } from './method';
import { highest } from './ranking';
import { enteringByStage, mean, nearestKnob } from './stages';
import type { AttentionNeed, DecoderView, EncoderFacts, PruningRun, VisualOrigins } from './types';
import { windowMerging } from './window_merge';

/** Blocks of 32 behind which tokens are dropped. */
const LAYERS = [2, 6, 10, 14];
const WINDOW = 3;
const SIMILARITY = 0.8;
const KEY_SHARE = 0.08;
const THRESHOLD = 0.001;

export interface MustDropOptions {
  readonly method: 'mustdrop';
  /** A token is dropped when its share of the text's attention is below this, 0 to 1, and … */
  readonly globalThreshold?: number;
  /** … no text token gives it this much, 0 to 1. Both default to 0.001, the published setting for 192 tokens. */
  readonly individualThreshold?: number;
  /** In place of thresholds, which leave as many tokens as they like: visual tokens entering a block, per crop, averaged over the blocks. */
  readonly averageTokens?: number;
  /** Whether windows of similar patches are merged inside the encoder; default true. */
  readonly merge?: boolean;
  /** 0-based blocks of this decoder behind which tokens are dropped, ascending; default 2, 6, 10, 14 of 32, by its depth. */
  readonly layers?: readonly number[];
}

/** What the text's rows give each visual token: [n] each. */
export interface TextAttention {
  /** Summed over the rows. */
  readonly sums: Float32Array;
  /** The most that one row gives. */
  readonly maxima: Float32Array;
}

/**
 * The rule of MustDrop in the decoder, without tensors: a token goes when the text as a whole and each of its rows care little for it, unless it is a key token.
 *
 * @param isKey [n], 1 for tokens that are never dropped
 * @returns indices that stay, ascending
 */
export function mustDrop(
  { sums, maxima }: TextAttention,
  isKey: Uint8Array,
  thresholds: { readonly global: number; readonly individual: number },
): Int32Array {
  const total = sums.reduce((sum, value) => sum + value, 0);
  const stays = (token: number) => isKey[token] === 1 || sums[token]! >= thresholds.global * total || maxima[token]! >= thresholds.individual;
  return Int32Array.from(sums.keys()).filter(stays);
}

/**
 * MustDrop (Liu et al. 2024, https://arxiv.org/abs/2411.10803) in three places. Behind encoder block 0, windows of 3 x 3 patches whose states resemble one
 * another are merged. From the encoder's last block, the 8% of tokens with the highest class attention are key tokens. Behind four decoder blocks, tokens
 * that the text hardly looks at are dropped (`mustDrop`); after prefill the caches of the blocks in between are cut down to what was left in the end.
 */
export const mustDropMethod: Method<MustDropOptions> = {
  options: ['globalThreshold', 'individualThreshold', 'averageTokens', 'merge', 'layers'],
  about: {
    title: 'MustDrop',
    acts: 'in the encoder behind block 0 (merges); in the decoder behind blocks 2, 6, 10 and 14 of 32, and in their caches after prefill',
    reads:
      'similarity of neighbouring patches; class attention of the last encoder block; attention of the text behind the images in the block that ran, averaged over heads',
    entering: 'depends on the image and the question; with `averageTokens`, that many on average where merging leaves so many',
    source: 'Liu et al. 2024, [arXiv 2411.10803](https://arxiv.org/abs/2411.10803); liuting20/MustDrop @ 909afa53',
    grade: 'paper',
    differences: [
      "Positions are kept. The released code numbers anew and cuts caches afterwards, so that a later token's position may lie before its own prompt.",
      "A window is merged when the mean cosine over all pairs of two of its patches' states is 0.8 or more; windows lie side by side, and what they leave at the edges of a grid is not merged. Later blocks count a merged token once.",
      '`averageTokens` is ours: stage j keeps a share λ^j, of those ranked by the attention that the text gives them, key tokens first; λ is solved for the average. The published thresholds (TextVQA, 192, 128, 64 tokens: 0.001 and 0.001; 0.0012 and 0.001; 0.011 and 0.01) were found for each data set.',
      'Layers are scaled to the depth of the decoder.',
      'The text is what stands behind the last image. The tokens of several images or crops are judged together; key tokens and windows are of each crop.',
      'Without a class token, key tokens are those that receive most attention on average.',
    ],
  },
  example: { method: 'mustdrop', globalThreshold: 0.001, individualThreshold: 0.001 },
  forAverage(average, { patches, decoderBlocks }) {
    if (average >= patches) return { method: 'mustdrop', averageTokens: patches, merge: false };
    const layers = scaledLayers(LAYERS, decoderBlocks, 0, decoderBlocks - 2);
    const counts = stageCounts(patches, keyTokens(patches), average, layers, decoderBlocks);
    const reached = mean(enteringByStage(patches, decoderBlocks, behind(layers), counts));
    return Math.abs(reached - average) <= 0.5 ? { method: 'mustdrop', averageTokens: average } : undefined;
  },
  create(options) {
    const { globalThreshold = THRESHOLD, individualThreshold = THRESHOLD, averageTokens, merge = true, layers: given } = options;
    if (averageTokens !== undefined) checkAverage(options, averageTokens);
    const merges = flag(merge, 'merge');
    const thresholds = {
      global: fraction(globalThreshold, 'globalThreshold', 'METHOD_OPTION_INVALID', true),
      individual: fraction(individualThreshold, 'individualThreshold', 'METHOD_OPTION_INVALID', true),
    };
    const own = given === undefined ? undefined : checkLayers(given, 'layers', 0);
    const layersOf = (blocks: number) => {
      const layers = own ?? scaledLayers(LAYERS, blocks, 0, blocks - 2);
      checkDepth(layers, 'layers', blocks, blocks - 2);
      return layers;
    };
    return {
      name: 'mustdrop',
      textDependent: true,
      positions: 'keep',
      needs: (encoder) => ({
        attention: [keyAttention(encoder)],
        blockInput: true,
        ...(merges ? { encoder: windowMerging(WINDOW, SIMILARITY) } : {}),
      }),
      enteringTokens(patches, blocks) {
        const layers = layersOf(blocks);
        if (averageTokens === undefined || merges) return undefined;
        return enteringByStage(patches, blocks, behind(layers), stageCounts(patches, keyTokens(patches), averageTokens, layers, blocks));
      },
      begin({ encoder, decoderBlocks, patchesPerCrop }) {
        const layers = layersOf(decoderBlocks);
        const average = averageTokens === undefined ? undefined : averageTokens * patchesPerCrop.length;
        return mustDropRun({ encoder, layers, blocks: decoderBlocks, average, thresholds });
      },
    };
  },
};

interface Plan {
  readonly encoder: EncoderFacts;
  readonly layers: readonly number[];
  readonly blocks: number;
  readonly average: number | undefined;
  readonly thresholds: { readonly global: number; readonly individual: number };
}

function mustDropRun({ encoder, layers, blocks, average, thresholds }: Plan): PruningRun {
  const keys: ReadonlySet<number>[] = []; // of each crop, by the first patch in it
  let counts: readonly number[] | undefined;
  return {
    async select(view) {
      const rows = view.features.shape[0];
      const scores = tf.tidy(() => tf.mean(view.attention(keyAttention(encoder)), 0));
      const values = (await scores.data()) as Float32Array;
      scores.dispose();
      checkScores(values);
      keys.push(new Set(Array.from(highest(values, keyTokens(rows)), (row) => view.members?.[row]?.[0] ?? row)));
      return { kept: Int32Array.from({ length: rows }, (_, row) => row) };
    },
    async afterBlock(view) {
      const stage = layers.indexOf(view.block);
      if (stage < 0) return undefined;
      const isKey = Uint8Array.from(view.originalIndices, (token) => (isKeyToken(keys, view.origins, token) ? 1 : 0));
      const attention = await textAttention(view);
      if (average === undefined) return attention && { keep: mustDrop(attention, isKey, thresholds) };
      counts ??= stageCounts(isKey.length, isKey.filter((key) => key === 1).length, average, layers, blocks);
      return attention && { keep: keysThenHighest(attention.sums, isKey, counts[stage]!) };
    },
    async afterPrefill(caches) {
      const left = new Set(caches.visualTokens(blocks - 1));
      for (let block = layers[0]!; block <= layers.at(-1)!; block++) {
        const held = caches.visualTokens(block);
        caches.retain(
          block,
          Int32Array.from(held.keys()).filter((i) => left.has(held[i]!)),
        );
      }
    },
    dispose() {},
  };
}

function isKeyToken(keys: readonly ReadonlySet<number>[], { crops, patches }: VisualOrigins, token: number): boolean {
  return keys[crops[token]!]?.has(patches[token]!) ?? false;
}

function keyTokens(rows: number): number {
  return Math.ceil(rows * KEY_SHARE);
}

function keyAttention({ blocks, hasClassToken }: EncoderFacts): AttentionNeed {
  return { block: blocks - 1, rows: hasClassToken ? 'class' : 'received' };
}

/** A drop behind a block shows before the next. */
function behind(layers: readonly number[]): number[] {
  return layers.map((layer) => layer + 1);
}

/** What each stage leaves of those that entered, so that `average` enter a block on average, as near as key tokens allow. */
function stageCounts(entered: number, keys: number, average: number, layers: readonly number[], blocks: number): number[] {
  const counts = (share: number) => layers.map((_, stage) => Math.max(keys, 1, Math.round(entered * share ** (stage + 1))));
  const share = nearestKnob(average, Number.POSITIVE_INFINITY, (knob) => mean(enteringByStage(entered, blocks, behind(layers), counts(knob))));
  return counts(share ?? 1);
}

function keysThenHighest(sums: Float32Array, isKey: Uint8Array, count: number): Int32Array {
  const others = Int32Array.from(sums.keys()).filter((token) => isKey[token] === 0);
  const more = highest(
    Float32Array.from(others, (token) => sums[token]!),
    Math.max(0, count - (sums.length - others.length)),
  );
  const stays = new Set(Array.from(more, (i) => others[i]!));
  return Int32Array.from(sums.keys()).filter((token) => isKey[token] === 1 || stays.has(token));
}

/** In the block that ran; undefined where no text stands behind the images. One download. */
async function textAttention(view: DecoderView): Promise<TextAttention | undefined> {
  const rows = textRows(view, true);
  if (rows.length === 0) return undefined;
  const both = tf.tidy(() => {
    const map = tf.mean(view.attentionRows(view.block, rows), 0); // [rows, S]
    return tf.stack([tf.sum(map, 0), tf.max(map, 0)]); // [2, S]
  });
  try {
    const values = (await both.data()) as Float32Array;
    const sums = Float32Array.from(view.visualRows, (row) => values[row]!);
    checkScores(sums);
    return { sums, maxima: Float32Array.from(view.visualRows, (row) => values[view.sequenceLength + row]!) };
  } finally {
    both.dispose();
  }
}

function checkAverage({ globalThreshold, individualThreshold }: MustDropOptions, average: unknown): void {
  if (globalThreshold !== undefined || individualThreshold !== undefined) {
    throw new PruneError('BUDGET_AMBIGUOUS', '"averageTokens" is given beside a threshold. Give one or the other.');
  }
  if (typeof average !== 'number' || !(average > 0) || !Number.isFinite(average)) {
    throw new PruneError('TOKENS_INVALID', `Option "averageTokens" is ${show(average)}. Give a number above 0.`);
  }
}
