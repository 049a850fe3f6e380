import type * as tf from '@tensorflow/tfjs';
import type { AttentionNeed, DecoderView, EncoderFacts, RequestView, VisionView } from '../../../lib/prune/types';

/** A CLIP-like encoder of four blocks whose features are the output of the block before the last. */
export const clip: EncoderFacts = { blocks: 4, featureBlock: 2, heads: 2, hasClassToken: true, feedsClassToken: false };

export function request(patchesPerCrop: readonly number[], encoder: EncoderFacts = clip, decoderBlocks = 4): RequestView {
  return { encoder, decoderBlocks, patchesPerCrop, grids: patchesPerCrop.map((columns) => ({ rows: 1, columns })) };
}

/** What `visionView` has beside features and attention. */
export interface ViewParts {
  readonly image?: number;
  readonly crop?: number;
  readonly projected?: tf.Tensor2D;
  readonly textEmbeddings?: tf.Tensor2D;
  readonly textIds?: Int32Array;
}

/** One crop, whose attention may be asked for by `need` alone. */
export function visionView(features: tf.Tensor2D, attention: tf.Tensor2D, need: AttentionNeed, parts: ViewParts = {}): VisionView {
  return {
    image: parts.image ?? 0,
    crop: parts.crop ?? 0,
    grid: { rows: 1, columns: features.shape[0] },
    features,
    attention(asked) {
      if (asked.block !== need.block || asked.rows !== need.rows) throw new Error(`asked for ${JSON.stringify(asked)}`);
      return attention;
    },
    projections: () => refuse('queries and keys'),
    classToken: () => refuse('the class token'),
    projected: async () => parts.projected ?? refuse('the projected patches'),
    textIds: parts.textIds ?? new Int32Array(0),
    textEmbeddings: async () => parts.textEmbeddings ?? refuse('the text'),
    pause: () => Promise.resolve(),
  };
}

/** A sequence before `block` whose attention rows are given by `rows`, [heads, 1, S]. */
export function decoderView(block: number, visualRows: readonly number[], rows: DecoderView['attentionRows'], sequenceLength: number): DecoderView {
  return {
    block,
    blocks: 4,
    sequenceLength,
    visualRows: Int32Array.from(visualRows),
    originalIndices: Int32Array.from(visualRows.keys()),
    decoder: { heads: 1, keyValueHeads: 1, headDim: 4, frequencies: Float32Array.of(1, 0.01) },
    positions: Int32Array.from({ length: sequenceLength }, (_, i) => i),
    origins: { crops: new Int32Array(visualRows.length), patches: Int32Array.from(visualRows.keys()) },
    get states(): tf.Tensor2D {
      return refuse('the states');
    },
    attended: () => refuse('what the attention gave'),
    normed: () => refuse('the normed states'),
    attentionRows: rows,
    keys: () => refuse('the keys'),
    pause: () => Promise.resolve(),
  };
}

function refuse(what: string): never {
  throw new Error(`asked for ${what}`);
}
