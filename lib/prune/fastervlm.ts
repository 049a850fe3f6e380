import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { rankingAttention } from './encoder_attention';
import type { Method } from './method';
import { visPruner } from './vispruner';

export type FasterVlmOptions = { readonly method: 'fastervlm' } & Budget;

/** FasterVLM (https://arxiv.org/abs/2412.01818v1): the patches with the highest attention, which is VisPruner with an important ratio of 1. */
export const fasterVlmMethod: Method<FasterVlmOptions> = {
  options: BUDGET_OPTIONS,
  about: {
    title: 'FasterVLM',
    acts: 'between encoder and projector, each crop by itself',
    reads: 'class-token attention of the feature block (no class token: mean attention received in the last block)',
    entering: 'T',
    source: 'Zhang et al., [arXiv 2412.01818v1](https://arxiv.org/abs/2412.01818v1); Theia-4869/FasterVLM @ f5d5f12; VisPruner with r = 1',
    grade: 'exact',
    differences: ['Of equal attention, the lower patch index is kept.', 'T > N is an error.'],
  },
  example: { method: 'fastervlm', tokens: 64 },
  forAverage: (average) => ({ method: 'fastervlm', tokens: wholeTokens(average) }),
  create: (options) =>
    beforeDecoder({
      name: 'fastervlm',
      count: tokenCount(options),
      needs: (encoder) => ({ attention: [rankingAttention(encoder)] }),
      select: (view, tokens, encoder) =>
        visPruner(view.features, view.attention(rankingAttention(encoder)), { tokens, importantRatio: 1 }, view.pause),
    }),
};
