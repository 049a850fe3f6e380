import * as tf from '@tensorflow/tfjs';
import { attentionFrom, textRows } from './attention_scores';
import { tokenCount } from './budget';
import { checkScores, wholeNumber } from './checks';
import { checkDepth, scaledLayers } from './depth';
import { rankingAttention } from './encoder_attention';
import type { BudgetFacts, Method } from './method';
import { descendingOrder, highest } from './ranking';
import type { DecoderView, Reduction } from './types';

export interface InteractionOptions {
  readonly method: 'interaction';
  /** Of a crop, that enter the decoder; default: up to the knee of the sorted class similarity, so that the image decides. */
  readonly tokens?: number;
  /** Of those, that stay in the decoder; default: those that text attends to more than to the average one. */
  readonly finalTokens?: number;
  /** The block before which they are chosen, 1 or more; default 2 of 32. */
  readonly layer?: number;
}

/**
 * A stand-in for 'Sparsity Meets Similarity' (https://arxiv.org/abs/2409.01162), of which only the idea is public: a crop's patches are sorted by their
 * similarity to the class token and cut where the curve bends; inside the decoder, those that interact little with the text go.
 *
 * @param scores [n], similarity to the class token
 * @returns how many to keep: up to the point that is farthest from the chord between the highest and the lowest score; all where the curve is that chord
 */
export function kneeCount(scores: Float32Array): number {
  const curve = descendingOrder(scores).reduce<number[]>((sorted, index) => {
    sorted.push(scores[index]!);
    return sorted;
  }, []);
  const [first, last] = [curve[0]!, curve.at(-1)!];
  const distances = curve.map((value, i) => Math.abs(first + ((last - first) * i) / Math.max(1, curve.length - 1) - value));
  const most = distances.reduce((a, b) => Math.max(a, b), 0);
  return most <= 1e-6 * (first - last) ? curve.length : distances.indexOf(most) + 1;
}

async function choose(attention: tf.Tensor2D, tokens: number | undefined): Promise<Int32Array> {
  const mean = tf.tidy(() => tf.mean(attention, 0));
  try {
    const scores = (await mean.data()) as Float32Array;
    checkScores(scores);
    return highest(scores, tokens ?? kneeCount(scores));
  } finally {
    mean.dispose();
  }
}

async function reduce(view: DecoderView, final: number | undefined): Promise<Reduction | undefined> {
  const scores = await attentionFrom(view, view.block - 1, textRows(view, false));
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const keep = final === undefined ? Int32Array.from(scores.keys()).filter((token) => scores[token]! >= mean) : highest(scores, final);
  return keep.length < scores.length ? { keep: keep.length > 0 ? keep : highest(scores, 1) } : undefined; // rounding may leave none at the mean
}

/** Entering tokens of counts for the two stages, averaged over the blocks. */
function averageOf(tokens: number, final: number, layer: number, blocks: number): number {
  return (layer * tokens + (blocks - layer) * final) / blocks;
}

/** Counts of an average, the second as near to half of the first as the average allows. */
function countsFor(average: number, layer: number, { patches, decoderBlocks: blocks }: BudgetFacts): { tokens: number; final: number } | undefined {
  let best: { tokens: number; final: number; penalty: number } | undefined;
  for (let tokens = 1; tokens <= patches; tokens++) {
    const final = Math.min(tokens, Math.max(1, Math.round((blocks * average - layer * tokens) / (blocks - layer))));
    const error = Math.abs(averageOf(tokens, final, layer, blocks) - average);
    if (error > 0.5) continue;
    const penalty = Math.abs(final / tokens - 0.5) + error;
    if (!best || penalty < best.penalty) best = { tokens, final, penalty };
  }
  return best;
}

/** @throws PruneError `LAYER_INVALID` */
function layerOf(layer: number | undefined, blocks: number): number {
  const [block] = layer === undefined ? scaledLayers([2], blocks) : [layer];
  checkDepth(block === undefined ? [] : [block], 'layer', blocks, blocks - 1);
  return block as number;
}

export const interactionMethod: Method<InteractionOptions> = {
  options: ['tokens', 'finalTokens', 'layer'],
  about: {
    title: 'Class similarity and text interaction (Sparsity Meets Similarity)',
    acts: 'between encoder and projector, each crop by itself; and in the decoder before block K (default 2 of 32), all visual tokens together',
    reads: 'class-token attention of the feature block; attention of all text rows in block K - 1, averaged over heads',
    entering: 'n up to block K, then m of them; by the image, or `tokens` and `finalTokens`',
    source: '[arXiv 2409.01162](https://arxiv.org/abs/2409.01162), of which only abstracts could be read',
    grade: 'sketch',
    differences: [
      "Not public, and ours: class similarity is class attention, the cut is the point of the sorted curve farthest from its chord, K is 2 of 32, relevance is the text rows' attention, and what is below its mean goes. It reproduces no figure of the paper.",
      'Fixed counts (`tokens`, `finalTokens`) and options for an average, half of the first count staying where it can, are ours: the paper knows no budget. The counts are per crop.',
      'The paper drops text tokens too; here all text stays.',
      'Of equal scores the lower index is kept.',
    ],
  },
  example: { method: 'interaction' },
  forAverage(average, facts) {
    if (facts.decoderBlocks < 2) return undefined;
    const layer = layerOf(undefined, facts.decoderBlocks);
    const counts = countsFor(average, layer, facts);
    return counts && { method: 'interaction', tokens: counts.tokens, finalTokens: counts.final, layer };
  },
  create({ tokens, finalTokens, layer }) {
    const count = tokens === undefined ? undefined : tokenCount({ tokens });
    if (finalTokens !== undefined) wholeNumber(finalTokens, 'finalTokens', 'TOKENS_INVALID', 1, tokens);
    if (layer !== undefined) wholeNumber(layer, 'layer', 'LAYER_INVALID', 1);
    return {
      name: 'interaction',
      textDependent: true,
      positions: 'keep',
      needs: (encoder) => ({ attention: [rankingAttention(encoder)], blockInput: true }),
      enteringTokens(patches, decoderBlocks) {
        const block = layerOf(layer, decoderBlocks);
        if (!count || finalTokens === undefined) return undefined;
        return Array.from({ length: decoderBlocks }, (_, i) => (i < block ? count(patches) : finalTokens));
      },
      begin({ encoder, patchesPerCrop, decoderBlocks }) {
        const block = layerOf(layer, decoderBlocks);
        for (const patches of patchesPerCrop) count?.(patches);
        const final = finalTokens === undefined ? undefined : finalTokens * patchesPerCrop.length;
        return {
          select: async (view) => ({ kept: await choose(view.attention(rankingAttention(encoder)), tokens) }),
          beforeBlock: async (view) => (view.block === block ? reduce(view, final) : undefined),
          dispose() {},
        };
      },
    };
  },
};
