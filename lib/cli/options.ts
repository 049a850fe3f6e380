import * as path from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { readJson } from '../../weights/byte_directory';
import { openDirectory } from '../../weights/byte_directory_node';
import { BACKENDS, type BackendName } from '../backend/backends';
import { WEIGHT_DTYPES, type WeightDtype } from '../backend/precision';
import { METHODS, type PruneOptions } from '../prune/registry';
import { methodNamed, parseMethod } from '../prune/written';
import { UseError } from './errors';
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
  readonly pruneOptions?: string;
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
    .option(
      '--prune <method>',
      `a method, with options of its own as in pyramiddrop:ratio=0.4 (default: ${usual}): ${Object.keys(METHODS).join(', ')}`,
    )
    .option('--prune-options <file.json>', 'or a method with its options, {"method": …}, as "vispruner tune" writes them')
    .option('--tokens <n>', 'visual tokens to keep of each crop', number)
    .option('--keep-ratio <f>', 'or the fraction of them to keep, above 0, at most 1', number)
    .option('--important-ratio <r>', 'vispruner: share kept for its attention, 0 to 1 (default: 0.5)', number)
    .option('--step <n>', 'vispruner, dedup: patches removed in a round of deduplication (default: 8)', number)
    .option('--layer <k>', 'fastv, dart, vtw: the decoder block before which tokens are dropped', number)
    .option('--average-tokens <n>', 'fastv: a budget as visual tokens entering a block, averaged over all blocks', number)
    .option('--seed <n>', 'of every draw: random pruning, and sampling (default: 0)', number);
}

/**
 * The pruning that flags ask for: `usual` unless a method or one of its options is given; options without a method mean VisPruner.
 * @throws CheckpointError `FILE_NOT_FOUND`, `NOT_JSON`; UseError `PRUNE_OPTIONS_TWICE`
 */
export async function pruneOptions(flags: PruneFlags, usual: 'none' | 'vispruner' = 'none'): Promise<PruneOptions> {
  const { pruneOptions: file } = flags;
  if (file === undefined) return fromFlags(flags, usual);
  const given = Object.keys(flags).find((name) => name === 'prune' || METHOD_FLAGS.includes(name as (typeof METHOD_FLAGS)[number]));
  if (given !== undefined) {
    throw new UseError(
      'PRUNE_OPTIONS_TWICE',
      `--prune-options ${file} has the whole pruning; leave the option "${given}" out, or write it into the file.`,
    );
  }
  return (await readJson(await openDirectory(path.dirname(path.resolve(file))), path.basename(file))) as PruneOptions; // `createPruner` checks it
}

const METHOD_FLAGS = ['tokens', 'keepRatio', 'importantRatio', 'step', 'layer', 'averageTokens'] as const;

function fromFlags(flags: PruneFlags, usual: 'none' | 'vispruner'): PruneOptions {
  const given = METHOD_FLAGS.map((name) => [name, flags[name]] as const).filter(([, value]) => value !== undefined);
  const { name, options } = parseMethod(flags.prune ?? (given.length > 0 ? 'vispruner' : usual));
  const twice = given.find(([option]) => option in options);
  if (twice) {
    throw new UseError(
      'PRUNE_OPTIONS_TWICE',
      `The option "${twice[0]}" is given in --prune ${flags.prune} and by itself too. Leave one of the two out.`,
    );
  }
  const draws = methodNamed(name).options.includes('seed') && flags.seed !== undefined && !('seed' in options);
  return { method: name, ...Object.fromEntries(given), ...options, ...(draws ? { seed: flags.seed } : {}) } as unknown as PruneOptions; // `createPruner` checks every value
}
