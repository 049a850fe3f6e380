import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, wholeTokens } from './budget';
import { type GridBudget, gridPlan } from './grid_budget';
import type { Method } from './method';
import { centreOf } from './windows';

/** `stride`: every so many-th row and column is kept, in place of a budget; 1 or more. */
export type UniformOptions = { readonly method: 'uniform' } & GridBudget<'stride'>;

/** Patches evenly spread over the image, whatever is in it. */
export const uniformMethod: Method<UniformOptions> = {
  options: [...BUDGET_OPTIONS, 'stride'],
  about: {
    title: 'Uniform grid',
    acts: 'between encoder and projector, each crop by itself',
    reads: 'nothing',
    entering: 'T; ceil(rows / s) ceil(columns / s) with a stride of s',
    source: 'the usual baseline: subsampling',
    grade: 'ours',
    differences: ["The patch in the middle of each window of `pool`, of the same budget or with the stride as the windows' side."],
  },
  example: { method: 'uniform', tokens: 64 },
  forAverage: (average) => ({ method: 'uniform', tokens: wholeTokens(average) }),
  create(options) {
    const plan = gridPlan(options, 'stride');
    return {
      ...beforeDecoder({
        name: 'uniform',
        count: plan.count,
        needs: () => ({ attention: [] }),
        select: ({ grid }) => Promise.resolve(Int32Array.from(plan.windows(grid), (window) => centreOf(window, grid)).sort()),
      }),
      enteringTokens: plan.enteringTokens,
    };
  },
};
