import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { wholeNumber } from './checks';
import { rankingAttention } from './encoder_attention';
import type { Method } from './method';
import { visPruner } from './vispruner';

/** `step`: as VisPruner's. */
export type DedupOptions = { readonly method: 'dedup'; readonly step?: number } & Budget;

/** VisPruner with an important ratio of 0: only its deduplication, which still starts from the order of attention. */
export const dedupMethod: Method<DedupOptions> = {
  options: [...BUDGET_OPTIONS, 'step'],
  about: {
    title: 'Deduplication alone',
    acts: 'between encoder and projector, each crop by itself',
    reads: 'cosine similarity of the features; attention as VisPruner, only for the order in which they are compared',
    entering: 'T',
    source: 'the second step of VisPruner, r = 0',
    grade: 'exact',
    differences: ['As VisPruner.'],
  },
  example: { method: 'dedup', tokens: 64 },
  forAverage: (average) => ({ method: 'dedup', tokens: wholeTokens(average) }),
  create({ tokens, keepRatio, step }) {
    if (step !== undefined) wholeNumber(step, 'step', 'STEP_INVALID', 1);
    return beforeDecoder({
      name: 'dedup',
      count: tokenCount({ tokens, keepRatio }),
      needs: (encoder) => ({ attention: [rankingAttention(encoder)] }),
      select: (view, count, encoder) =>
        visPruner(view.features, view.attention(rankingAttention(encoder)), { tokens: count, importantRatio: 0, step }, view.pause),
    });
  },
};
