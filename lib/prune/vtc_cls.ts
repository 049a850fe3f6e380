import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { checkScores, wholeNumber } from './checks';
import { classBlock } from './encoder_attention';
import type { Method } from './method';
import { highest } from './ranking';
import type { AttentionNeed, EncoderFacts, VisionView } from './types';

/** `blocks`: how many, ending with that of the features; default 3, or all that there are. */
export type VtcClsOptions = { readonly method: 'vtc-cls'; readonly blocks?: number } & Budget;

const USUAL_BLOCKS = 3;

/**
 * VTC-CLS (Wang et al. 2024, https://arxiv.org/abs/2412.05819): the patches with the highest class-token attention, averaged over heads and over an
 * ensemble of blocks instead of one.
 */
export const vtcClsMethod: Method<VtcClsOptions> = {
  options: [...BUDGET_OPTIONS, 'blocks'],
  about: {
    title: 'VTC-CLS',
    acts: 'between encoder and projector, each crop by itself',
    reads: 'class-token attention of the last blocks up to that of the features (usually 3), averaged',
    entering: 'T',
    source: 'Wang et al. 2024, [arXiv 2412.05819](https://arxiv.org/abs/2412.05819); THU-MIG/VTC-CLS @ e41ac9b',
    grade: 'paper',
    differences: [
      "Three blocks, as the paper has it; the released code's default is seven (from block 16 of 24 on), which is `blocks: 7`. The rest is the code's.",
      'Of equal attention, the lower patch index is kept.',
    ],
  },
  example: { method: 'vtc-cls', tokens: 64 },
  forAverage: (average) => ({ method: 'vtc-cls', tokens: wholeTokens(average) }),
  create({ tokens, keepRatio, blocks }) {
    if (blocks !== undefined) wholeNumber(blocks, 'blocks', 'METHOD_OPTION_INVALID', 1);
    return beforeDecoder({
      name: 'vtc-cls',
      count: tokenCount({ tokens, keepRatio }),
      needs: (encoder) => ({ attention: needsOf(encoder, blocks) }),
      select: (view, count, encoder) => select(view, count, needsOf(encoder, blocks)),
    });
  },
};

function needsOf(encoder: EncoderFacts, blocks: number | undefined): AttentionNeed[] {
  const last = classBlock(encoder, encoder.featureBlock);
  if (blocks !== undefined && blocks > last + 1) {
    throw new PruneError(
      'METHOD_OPTION_INVALID',
      `Option "blocks" is ${blocks}, but the encoder has ${last + 1} blocks up to the features. Give 1 to ${last + 1}.`,
    );
  }
  const count = blocks ?? Math.min(USUAL_BLOCKS, last + 1);
  return Array.from({ length: count }, (_, i) => ({ block: last - i, rows: 'class' }));
}

async function select(view: VisionView, count: number, needs: readonly AttentionNeed[]): Promise<Int32Array> {
  const summed = tf.tidy(() => tf.addN(needs.map((need) => tf.mean(view.attention(need), 0)))) as tf.Tensor1D; // [N]
  try {
    const scores = (await summed.data()) as Float32Array;
    checkScores(scores);
    return highest(scores, count);
  } finally {
    summed.dispose();
  }
}
