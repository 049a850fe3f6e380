import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { PruneError } from '../../layers/errors';
import { BUDGETS } from '../eval/conditions';
import { type ComparedMethod, parseMethods } from '../eval/method_list';
import type { OutputFlags } from './eval_output';
import { addModelOptions, type ModelOptions, number, whole } from './options';

export interface EvalFlags extends ModelOptions, OutputFlags {
  readonly data: string;
  readonly methods: readonly ComparedMethod[];
  /** Files of `vispruner tune`. */
  readonly pruneOptions?: readonly string[];
  readonly budgets: readonly number[];
  readonly questions?: number;
  readonly seeds: readonly number[];
  readonly blind: boolean;
  readonly timed: number;
  readonly results: string;
  readonly fresh?: boolean;
  readonly shard?: Shard;
  readonly merge?: readonly string[];
}

/** The images whose number leaves `index - 1` when divided by `count`. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

export const SCENE_QUESTIONS = 2000;
const USUAL_METHODS = 'vispruner,fastervlm,dedup,fastv,random';
const USUAL_SEEDS = [1, 2, 3];

export function addEvalOptions(command: Command): Command {
  const methods = new Option(
    '--methods <list>',
    'methods between commas, with options as name:option=value, or as name@file.json; all: every one that a budget is enough for',
  );
  const shares = new Option('--budgets <list>', 'shares of the visual tokens that enter a decoder block on average, below 1');
  const drawn = new Option('--seeds <list>', 'of methods that draw: each is asked once for each');
  return addModelOptions(command)
    .option('--data <what>', 'scenes, or a data set: its mapping, or the directory that holds vispruner-data.json (docs/eval.md)', 'scenes')
    .addOption(methods.argParser((text) => parseMethods(text, readOptions)).default(parseMethods(USUAL_METHODS), USUAL_METHODS))
    .option('--prune-options <files...>', 'further methods with all of their options, a file each, as "vispruner tune" writes them')
    .addOption(shares.argParser(budgets).default(BUDGETS, BUDGETS.join(',')))
    .option('--questions <n>', `questions to ask, and the rest of the last image's (default: all; of the scenes ${SCENE_QUESTIONS})`, whole)
    .addOption(drawn.argParser(seeds).default(USUAL_SEEDS, USUAL_SEEDS.join(',')))
    .option('--no-blind', 'do not ask without the image')
    .option('--timed <n>', 'of how many images a question is asked alone too, for its time', count, 20)
    .option('--results <file.jsonl>', 'where answers are written as they come; the same command goes on from it', 'runs/eval.jsonl')
    .option('--fresh', 'write the results file anew')
    .option('--shard <i/n>', 'ask about every n-th image only, from the i-th: for n processes with a results file each', shard)
    .option('--merge <files...>', 'ask nothing: show the results of these files together')
    .option('--report <dir>', 'write a page with plots and tables to this folder, the plots as SVG, the tables as Markdown')
    .option('--json [file.json]', 'write all figures as JSON: to the file, or to stdout in place of the tables');
}

/** A file that `vispruner tune` wrote, or one like it. */
function readOptions(file: string): Record<string, unknown> {
  try {
    const options: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof options === 'object' && options !== null) return options as Record<string, unknown>;
  } catch (cause) {
    throw new PruneError('METHOD_LIST', `${file} can't be read as options in JSON: ${String(cause)}. Let "vispruner tune --out" write it.`, {
      cause,
    });
  }
  throw new PruneError('METHOD_LIST', `${file} is no JSON object of options. Let "vispruner tune --out" write it.`);
}

function list(text: string): number[] {
  return text
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(number);
}

function budgets(text: string): number[] {
  const shares = list(text);
  if (shares.some((share) => !(share > 0 && share < 1)))
    throw new InvalidArgumentError('Give shares above 0 and below 1; all tokens are always asked.');
  return [...new Set(shares)];
}

/** Behind these, seeds of single images would pass 2^32. */
const LARGEST_SEED = 4000;

function seeds(text: string): number[] {
  const found = list(text);
  if (found.length === 0 || found.some((seed) => !Number.isInteger(seed) || seed < 0 || seed > LARGEST_SEED))
    throw new InvalidArgumentError(`Give whole numbers from 0 to ${LARGEST_SEED}.`);
  return [...new Set(found)];
}

function count(text: string): number {
  const value = number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('Give a whole number of at least 0.');
  return value;
}

function shard(text: string): Shard {
  const [, index, of] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
  const found = { index: Number(index), count: Number(of) };
  if (!(found.index >= 1 && found.index <= found.count)) throw new InvalidArgumentError('Give two numbers as 1/2, the first at most the second.');
  return found;
}
