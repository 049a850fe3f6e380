import { type Command, InvalidArgumentError, Option } from 'commander';
import { BACKENDS, type BackendName } from '../backend/backends';
import { WEIGHT_DTYPES, type WeightDtype } from '../backend/precision';
import type { PruneOptions } from '../prune/registry';
import { shippedModel } from './package_files';

// Options that several commands have, so that they mean the same everywhere. A value that is not a number is refused here; what a number may be
// is said by whoever uses it.

export interface ModelOptions {
  readonly model: string;
  readonly backend: BackendName | 'auto';
  readonly dtype: WeightDtype | 'auto';
}

export interface PruneFlags {
  readonly prune?: string;
  readonly tokens?: number;
  readonly keepRatio?: number;
  readonly importantRatio?: number;
  readonly step?: number;
  readonly layer?: number;
  readonly averageTokens?: number;
  readonly seed?: number;
}

export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Give a number.');
  return value;
}

export function whole(text: string): number {
  const value = number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('Give a whole number of at least 1.');
  return value;
}

/** `--model`, which every command reads in one way (`findModel`). */
export function modelOption(): Option {
  return new Option(
    '--model <dir>',
    'directory of a Hugging Face LLaVA checkpoint, or org/name[@revision] of one in the local cache (see pull)',
  ).default(shippedModel(), 'the model that comes with the package');
}

export function addModelOptions(command: Command): Command {
  const backends = new Option('--backend <name>', 'where the model runs; auto is the fastest that works')
    .choices(['auto', ...BACKENDS])
    .default('auto');
  const dtypes = new Option(
    '--dtype <name>',
    'precision of the weights; auto is half precision where it is faster and the checkpoint is stored in it; int8 decodes fastest, on tensorflow',
  )
    .choices(WEIGHT_DTYPES)
    .default('auto');
  return command.addOption(modelOption()).addOption(backends).addOption(dtypes);
}

export function addPruneOptions(command: Command, usual: string): Command {
  return command
    .option('--prune <method>', `vispruner, fastervlm, dedup, random, fastv or none (default: ${usual})`)
    .option('--tokens <n>', 'visual tokens to keep of each crop', number)
    .option('--keep-ratio <f>', 'or the fraction of them to keep, above 0, at most 1', number)
    .option('--important-ratio <r>', 'vispruner: share kept for its attention, 0 to 1 (default: 0.5)', number)
    .option('--step <n>', 'vispruner, dedup: patches removed in a round of deduplication (default: 8)', number)
    .option('--layer <k>', 'fastv: the decoder block before which tokens are dropped (default: 2)', number)
    .option('--average-tokens <n>', 'fastv: a budget as visual tokens entering a block, averaged over all blocks', number)
    .option('--seed <n>', 'of every draw: random pruning, and sampling (default: 0)', number);
}

/** The pruning that flags ask for. `none` unless a method or one of its options is given; options without a method mean VisPruner. */
export function pruneOptions(flags: PruneFlags): PruneOptions {
  const { tokens, keepRatio, importantRatio, step, layer, averageTokens } = flags;
  const given = Object.entries({ tokens, keepRatio, importantRatio, step, layer, averageTokens }).filter(([, value]) => value !== undefined);
  const method = flags.prune ?? (given.length > 0 ? 'vispruner' : 'none');
  const seed = method === 'random' && flags.seed !== undefined ? [['seed', flags.seed] as const] : [];
  return { method, ...Object.fromEntries([...given, ...seed]) } as unknown as PruneOptions; // `createPruner` checks every name and value
}
