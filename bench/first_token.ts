import type { PruneOptions, Timing, VisionLanguageModel } from '../lib/index';
import { clocked } from './clock';
import { median, table } from './statistics';

/** Kept share of the patches: 100%, then the budgets of the accuracy table. */
const RATIOS = [1, 0.5, 0.22, 0.11, 0.056, 0.028];

const PHASES = ['prepare', 'encode', 'select', 'prefill'] as const;

interface Budget {
  readonly name: string;
  readonly tokens: number;
  readonly prune: PruneOptions;
  readonly timings: Timing[];
  readonly processor: number[];
}

export interface FirstTokenReport {
  readonly table: string;
  /** Largest share of the time to the first token that was spent in choosing patches. */
  readonly selectShare: number;
}

/**
 * Time to the first token with all visual tokens and at each budget of VisPruner. Each round asks once at every budget, each time beginning with another, so
 * that whatever else the machine does meets all of them alike; medians over rounds.
 */
export async function firstToken(
  model: VisionLanguageModel,
  image: string,
  question: string,
  patches: number,
  rounds: number,
): Promise<FirstTokenReport> {
  const budgets = RATIOS.map((ratio): Budget => {
    const tokens = Math.round(patches * ratio);
    const prune: PruneOptions = ratio === 1 ? { method: 'none' } : { method: 'vispruner', tokens };
    return { name: ratio === 1 ? 'all' : `${Number((100 * ratio).toFixed(1))}%`, tokens, prune, timings: [], processor: [] };
  });
  for (const { prune } of budgets) await model.ask(image, question, { prune, maxNewTokens: 1 }); // warms up
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < budgets.length; i++) {
      const { prune, timings, processor } = budgets[(i + round) % budgets.length] as Budget;
      const asked = await clocked(() => model.ask(image, question, { prune, maxNewTokens: 1 }));
      timings.push(asked.value.timing);
      processor.push(asked.processor);
    }
  }
  const share = ({ timings }: Budget) => median(timings.map((timing) => timing.select / timing.firstToken));
  const full = median((budgets[0] as Budget).timings.map((timing) => timing.firstToken));
  const rows = budgets.map((budget) => {
    const middle = (phase: keyof Timing) => median(budget.timings.map((timing) => timing[phase]));
    const ms = (phase: keyof Timing) => middle(phase).toFixed(1);
    return [
      budget.name,
      String(budget.tokens),
      ms('firstToken'),
      median(budget.processor).toFixed(1),
      `${(full / middle('firstToken')).toFixed(2)}x`,
      ...PHASES.map(ms),
      `${(100 * share(budget)).toFixed(1)}%`,
    ];
  });
  return {
    table: table(['budget', 'visual tokens', 'first token, ms', 'processor, ms', 'faster', ...PHASES.map((phase) => `${phase}, ms`), 'select'], rows),
    selectShare: Math.max(...budgets.map(share)),
  };
}
