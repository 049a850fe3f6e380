import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, wholeTokens } from './budget';
import { type GridBudget, gridPlan } from './grid_budget';
import type { Method } from './method';
import type { Selection, VisionView } from './types';
import { weightedSums } from './weighted_sums';
import { centreOf, patchesOf, type Window } from './windows';

/** `window`: the side of square windows, in patches, in place of a budget; 1 or more. */
export type PoolOptions = { readonly method: 'pool' } & GridBudget<'window'>;

/** Spatial pooling: the mean feature of each window of the grid. */
export const poolMethod: Method<PoolOptions> = {
  options: [...BUDGET_OPTIONS, 'window'],
  about: {
    title: 'Spatial pooling',
    acts: 'between encoder and projector, each crop by itself; merges',
    reads: 'nothing',
    entering: 'T; ceil(rows / s) ceil(columns / s) with windows of s x s',
    source: 'the usual baseline: average pooling',
    grade: 'ours',
    differences: [
      'For a budget, the grid is cut into exactly T windows: about sqrt(T) bands of rows, each into nearly T / sqrt(T) windows. Where T divides the grid evenly, they are the usual equal ones.',
    ],
  },
  example: { method: 'pool', tokens: 64 },
  forAverage: (average) => ({ method: 'pool', tokens: wholeTokens(average) }),
  create(options) {
    const plan = gridPlan(options, 'window');
    return {
      ...beforeDecoder({
        name: 'pool',
        count: plan.count,
        needs: () => ({ attention: [] }),
        select: (view) => pool(view, plan.windows(view.grid)),
      }),
      enteringTokens: plan.enteringTokens,
    };
  },
};

async function pool({ features, grid, pause }: VisionView, windows: readonly Window[]): Promise<Selection> {
  const centres = Int32Array.from(windows, (window) => centreOf(window, grid));
  if (windows.length === features.shape[0]) return { kept: centres };
  const members = windows.map((window, i) => {
    const centre = centres[i]!;
    return Int32Array.of(centre, ...patchesOf(window, grid).filter((patch) => patch !== centre));
  });
  const sums = members.map((rows) => ({ rows, weights: new Float32Array(rows.length).fill(1 / rows.length) }));
  return { kept: centres.slice().sort(), merged: { tokens: await weightedSums(features, sums, pause), space: 'features', members } };
}
