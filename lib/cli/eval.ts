import type { Command } from 'commander';
import { mergeResults } from '../eval/results';
import { readResults } from '../eval/results_node';
import type { CommandContext } from './context';
import { addEvalOptions, type EvalFlags } from './eval_options';
import { printSummary } from './eval_output';
import { runEval } from './eval_run';

/** `vispruner eval`: methods next to each other on one model and one data set. */
export function addEval(program: Command, { signal }: CommandContext): void {
  const command = program
    .command('eval')
    .description('compare pruning methods: accuracy, entering tokens and time of each at each budget, on scenes or on a data set of yours');
  addEvalOptions(command).action(async (flags: EvalFlags) => {
    const results = flags.merge ? mergeResults(await Promise.all(flags.merge.map(readResults))) : await runEval(flags, signal);
    signal.throwIfAborted();
    await printSummary(results, flags, signal);
  });
}
