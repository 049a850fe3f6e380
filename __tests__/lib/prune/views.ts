import type * as tf from '@tensorflow/tfjs';
import type { AttentionNeed, DecoderView, EncoderFacts, RequestView, VisionView } from '../../../lib/prune/types';

/** A CLIP-like encoder of four blocks whose features are the output of the block before the last. */
export const clip: EncoderFacts = { blocks: 4, featureBlock: 2, hasClassToken: true };

export function request(patchesPerCrop: readonly number[], encoder: EncoderFacts = clip, decoderBlocks = 4): RequestView {
  return { encoder, decoderBlocks, patchesPerCrop };
}

/** One crop, whose attention may be asked for by `need` alone. */
export function visionView(features: tf.Tensor2D, attention: tf.Tensor2D, need: AttentionNeed, place = { image: 0, crop: 0 }): VisionView {
  return {
    ...place,
    grid: { rows: 1, columns: features.shape[0] },
    features,
    attention(asked) {
      if (asked.block !== need.block || asked.rows !== need.rows) throw new Error(`asked for ${JSON.stringify(asked)}`);
      return attention;
    },
    projected: () => {
      throw new Error('asked for the projected patches');
    },
    textIds: new Int32Array(0),
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
    get states(): tf.Tensor2D {
      throw new Error('asked for the states');
    },
    attentionRows: rows,
  };
}
