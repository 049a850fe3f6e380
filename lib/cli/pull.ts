import type { Command } from 'commander';
import { pullModel } from '../hub/pull_node';
import { printable } from '../hub/status';
import type { CommandContext } from './context';
import { bytes, print, printJson } from './output';
import { progressBar } from './progress';

interface PullFlags {
  readonly revision?: string;
  readonly include?: readonly string[];
  readonly token?: string;
  readonly cacheDir?: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

function append(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** `vispruner pull`: a model from a hub into the local Hugging Face cache. */
export function addPull(program: Command, { signal }: CommandContext): void {
  program
    .command('pull')
    .description(
      'fetch a model from the Hugging Face hub into the local cache, where every --model finds it by its name; goes on where it was cut off',
    )
    .argument('<org/name>', 'as on its page, or org/name@revision')
    .option('--revision <r>', 'a branch, a tag, a full commit hash or refs/pr/1 (default: main)')
    .option('--include <pattern>', 'fetch the files that match (* is any text) in place of what a model needs; may be given several times', append)
    .option('--token <token>', 'for private and gated models (default: HF_TOKEN, or what "hf auth login" stored)')
    .option('--cache-dir <dir>', 'where models are kept (default: HF_HUB_CACHE, or hub in HF_HOME)')
    .option('--force', 'fetch again what is there')
    .option('--json', 'print one JSON object')
    .action(async (name: string, { json, ...flags }: PullFlags) => {
      const bar = progressBar('Fetching', bytes);
      const progress = (step: { bytes: number; totalBytes: number }) => bar.update(step.bytes, step.totalBytes);
      const report = await pullModel(name, { ...flags, progress, signal }).finally(() => bar.stop());
      if (json) return printJson(report, signal);
      if (report.skipped.length > 0) console.error(`left out, for loading the model does not need them: ${printable(report.skipped.join(', '))}`);
      const { repository, commit, files, fetchedBytes, directory } = report;
      print(
        `${repository} at ${commit}: ${files.length} files, ${bytes(report.bytes)}, of which ${bytes(fetchedBytes)} were fetched\n${directory}\n`,
        signal,
      );
    });
}
