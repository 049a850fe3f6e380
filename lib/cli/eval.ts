import { type Command, InvalidArgumentError } from 'commander';
import { findModel } from '../../weights/hub_cache_node';
import { BUDGETS, type Conditions, conditionsOf } from '../eval/conditions';
import { imagesFor } from '../eval/data_set';
import { evaluate } from '../eval/evaluate';
import { evaluatedModel } from '../eval/evaluated_model';
import { openDataSet } from '../eval/file_data_node';
import { type ComparedMethod, parseMethods } from '../eval/method_list';
import { mergeResults, type Results, type ResultsHeader } from '../eval/results';
import { machineName, ResultsFile, readResults, weightsDigest } from '../eval/results_node';
import { scenesData } from '../eval/scenes_data';
import type { VisionLanguageModel } from '../model';
import type { CommandContext } from './context';
import { type OutputFlags, printSummary } from './eval_output';
import { withModel } from './model';
import { addModelOptions, type ModelOptions, number, whole } from './options';
import { progressBar } from './progress';

export interface EvalFlags extends ModelOptions, OutputFlags {
  readonly data: string;
  readonly methods: readonly ComparedMethod[];
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
interface Shard {
  readonly index: number;
  readonly count: number;
}

const SCENE_QUESTIONS = 2000;
const USUAL_METHODS = 'vispruner,fastervlm,dedup,fastv,random';

/** `vispruner eval`: methods next to each other on one model and one data set. */
export function addEval(program: Command, { signal }: CommandContext): void {
  const command = program
    .command('eval')
    .description('compare pruning methods: accuracy, entering tokens and time of each at each budget, on scenes or on a data set of yours');
  addModelOptions(command)
    .option('--data <what>', 'scenes, or a data set: its mapping, or the directory that holds vispruner-data.json (docs/eval.md)', 'scenes')
    .option(
      '--methods <list>',
      'methods between commas, with options as name:option=value; all: every one that needs no training',
      parseMethods,
      parseMethods(USUAL_METHODS),
    )
    .option('--budgets <list>', 'shares of the visual tokens that enter a decoder block on average, below 1', budgets, BUDGETS)
    .option('--questions <n>', `questions to ask, and the rest of the last image's (default: all; of the scenes ${SCENE_QUESTIONS})`, whole)
    .option('--seeds <list>', 'of methods that draw: each is asked once for each', seeds, [1, 2, 3])
    .option('--no-blind', 'do not ask without the image')
    .option('--timed <n>', 'of how many images a question is asked alone too, for its time', count, 20)
    .option('--results <file.jsonl>', 'where answers are written as they come; the same command goes on from it', 'runs/eval.jsonl')
    .option('--fresh', 'write the results file anew')
    .option('--shard <i/n>', 'ask about every n-th image only, from the i-th: for n processes with a results file each', shard)
    .option('--merge <files...>', 'ask nothing: show the results of these files together')
    .option('--report <dir>', 'write a page with plots and tables to this folder, and the plots as SVG')
    .option('--json [file.json]', 'write all figures as JSON: to the file, or to stdout in place of the tables')
    .action(async (flags: EvalFlags) => {
      const results = flags.merge ? mergeResults(await Promise.all(flags.merge.map(readResults))) : await run(flags, signal);
      signal.throwIfAborted();
      await printSummary(results, flags, signal);
    });
}

async function run(flags: EvalFlags, signal: AbortSignal): Promise<Results> {
  const scenes = flags.data === 'scenes';
  const data = scenes ? scenesData() : await openDataSet(flags.data, signal);
  const wanted = imagesFor(data, flags.questions ?? (scenes ? SCENE_QUESTIONS : Number.POSITIVE_INFINITY));
  const weights = await weightsDigest(await findModel(flags.model), signal);
  return withModel(flags, signal, async (model) => {
    const { asked, unreachable } = conditionsFor(model, flags);
    const header: ResultsHeader = {
      format: 'vispruner-eval 1',
      weights,
      dtype: model.dtype,
      backend: model.backend,
      machine: machineName(),
      data: { name: data.name, digest: data.digest, metric: data.metric, maxNewTokens: data.maxNewTokens },
      conditions: asked.map(({ prune: _, ...condition }) => condition),
      unreachable,
      timed: flags.timed,
      ...(flags.shard ? { shard: `${flags.shard.index}/${flags.shard.count}` } : {}),
    };
    const file = await ResultsFile.open(flags.results, header, flags.fresh ?? false);
    const done = new Set(file.records.map(({ image }) => image));
    const { index, count: shards } = flags.shard ?? { index: 1, count: 1 };
    const mine = Array.from({ length: wanted.images }, (_, image) => image).filter((image) => image % shards === index - 1);
    const images = mine.filter((image) => !done.has(image));
    if (done.size > 0) console.error(`Going on from ${flags.results}: ${done.size} images are there, ${images.length} are left.`);
    const total = images.reduce((sum, image) => sum + data.questions(image).length, 0);
    const records = file.records.filter(({ image }) => image < wanted.images);
    const bar = progressBar('Asking', (value) => String(value));
    const begun = performance.now();
    let questions = 0;
    try {
      for await (const record of evaluate(evaluatedModel(model), data, { conditions: asked, images, timed: flags.timed, signal })) {
        await file.append(record);
        records.push(record);
        questions += record.questions.length;
        bar.update(questions, total, (performance.now() - begun) / 1000);
      }
    } finally {
      bar.stop();
    }
    return { header, records };
  });
}

function conditionsFor(model: VisionLanguageModel, { methods, budgets: shares, seeds: drawn, blind }: EvalFlags): Conditions {
  const { config } = model;
  const patches = config.model_type === 'llava' ? (config.vision_config.image_size / config.vision_config.patch_size) ** 2 : 0;
  return conditionsOf({ methods, budgets: shares, seeds: drawn, blind, patches, decoderBlocks: config.text_config.num_hidden_layers });
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
