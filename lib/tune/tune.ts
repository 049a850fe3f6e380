import { PruneError } from '../../layers/errors';
import type { VisionLanguageModel } from '../model';
import { checkNames, show } from '../prune/checks';
import type { PruneOptions } from '../prune/registry';
import { tuneFitPrune } from './fitprune';
import { tunePrototypes } from './prototypes';
import { encodeSamples, type TuneSample } from './tune_set';
import type { Tuner } from './tuner';
import { tuneVFlowOpt } from './vflowopt';
import { tuneVtw } from './vtw';

/** The searches there are, by method. A method that is not here has nothing to be searched. */
export const TUNERS: Readonly<Record<string, Tuner>> = {
  fitprune: tuneFitPrune,
  vflowopt: tuneVFlowOpt,
  prototypes: tunePrototypes,
  vtw: tuneVtw,
};

export interface TuneOptions {
  readonly samples: readonly TuneSample[];
  /** The budget, of searches that take one: visual tokens of a crop entering a decoder block, averaged over the blocks; */
  readonly average?: number;
  /** or as a share of all, above 0, at most 1. */
  readonly share?: number;
  /** Numbers of the search; each has a default. */
  readonly options?: Readonly<Record<string, number>>;
  /** First over samples that are encoded, then over runs of the decoder; how many there will be at most. */
  readonly progress?: (done: number, total: number, stage: 'encode' | 'search') => void;
  readonly signal?: AbortSignal;
}

/** @throws PruneError `SEARCH_UNKNOWN` */
export function tunerNamed(method: string): Tuner {
  const tuner = Object.hasOwn(TUNERS, method) ? TUNERS[method] : undefined;
  if (tuner) return tuner;
  throw new PruneError(
    'SEARCH_UNKNOWN',
    `There is nothing to search for method ${show(method)}. Use one of these: ${Object.keys(TUNERS).join(', ')}.`,
  );
}

/** Finds out what is wrong with a search before anything is loaded. @throws PruneError `SEARCH_UNKNOWN`, `METHOD_OPTION_UNKNOWN`, `BUDGET_MISSING`, `BUDGET_AMBIGUOUS`, `SEARCH_OPTION` */
export function checkTune(method: string, { average, share, options = {} }: Pick<TuneOptions, 'average' | 'share' | 'options'>): Tuner {
  const tuner = tunerNamed(method);
  checkNames(options, Object.keys(tuner.options), `The search of "${method}"`);
  if (average !== undefined && share !== undefined) {
    throw new PruneError('BUDGET_AMBIGUOUS', `A budget of ${average} tokens and one of the share ${share} are given. Give one of them.`);
  }
  const budget = average ?? share;
  if (tuner.budget && budget === undefined) {
    throw new PruneError('BUDGET_MISSING', `The search of "${method}" needs a budget: visual tokens entering a block on average, or their share.`);
  }
  if (!tuner.budget && budget !== undefined) {
    throw new PruneError('METHOD_OPTION_UNKNOWN', `The search of "${method}" takes no budget (${budget} is given). Leave it out.`);
  }
  if (average !== undefined && !(average > 0 && Number.isFinite(average))) {
    throw new PruneError('SEARCH_OPTION', `The average is ${show(average)}. Give a number of tokens above 0.`);
  }
  if (share !== undefined && !(share > 0 && share <= 1))
    throw new PruneError('SEARCH_OPTION', `The share is ${show(share)}. Give a number above 0, at most 1.`);
  return tuner;
}

/**
 * Searches a method's parameters on a model: options that every call takes as `prune`, plain data that can be kept as JSON.
 *
 * ```ts
 * const prune = await tune(model, 'fitprune', { samples: sceneSamples(20), share: 0.5 });
 * const { text } = await model.ask(image, question, { prune });
 * ```
 *
 * @throws PruneError as `checkTune`, `BUDGET_UNREACHABLE`; PromptError `NO_VISION`; the signal's reason
 */
export async function tune(model: VisionLanguageModel, method: string, options: TuneOptions): Promise<PruneOptions> {
  const tuner = checkTune(method, options);
  const { samples, average, share = 0, progress, signal } = options;
  if (samples.length === 0) throw new PruneError('SEARCH_OPTION', 'There are no samples to search on. Give at least one.');
  const needs = tuner.needs?.(model.layers.encoder) ?? { attention: [] };
  const set = await encodeSamples(model, samples, needs, { progress: progress && ((done, total) => progress(done, total, 'encode')), signal });
  try {
    return await tuner.search(set, {
      average: average ?? share * set.facts.patches,
      options: options.options ?? {},
      progress: (done, total) => progress?.(done, total, 'search'),
    });
  } finally {
    set.dispose();
  }
}
