import type { Command } from 'commander';
import { PromptError } from '../../layers/errors';
import {
  type AnalysedPicture,
  type AnalysisOptions,
  attentionDispersion,
  attentionShift,
  equalPositionAttention,
  keptRanks,
  quartileRetention,
  type RankedMethod,
  scenePictures,
} from '../analysis';
import { methodNamed, parseMethods } from '../eval/method_list';
import type { VisionLanguageModel } from '../model';
import { drawDispersion, drawEqualPositions, drawQuartiles, drawRanks, drawShift } from '../plot/analyses';
import { createPruner, type PruneOptions } from '../prune/registry';
import { dispersionTable, equalPositionsTable, quartilesTable, ranksTable, shiftTable } from './analyse_tables';
import type { CommandContext } from './context';
import { withModel } from './model';
import { addModelOptions, type ModelOptions, number, whole } from './options';
import { print, printJson, writeWhole } from './output';
import { progressBar } from './progress';
import { splitWords } from './words';

interface AnalyseFlags extends ModelOptions {
  readonly images?: number;
  readonly json?: boolean;
  readonly svg?: string;
  readonly tokens?: number;
  readonly block?: number;
  readonly bins?: number;
  readonly depths?: readonly number[];
  readonly methods?: string;
  readonly seed?: number;
}

/** One analysis as a command; flags are checked by the analysis itself. */
interface Analysis<Result> {
  readonly name: string;
  readonly description: string;
  addOptions(command: Command): Command;
  run(model: VisionLanguageModel, pictures: Iterable<AnalysedPicture>, flags: AnalyseFlags, options: AnalysisOptions): Promise<Result>;
  table(result: Result): string;
  draw(result: Result): Promise<string>;
}

const SCENES = 20;
const RANKED = 'vispruner,fastervlm,divprune,dedup,random';

/** `vispruner analyse`: what the paper shows of attention, of this model. */
export function addAnalyse(program: Command, context: CommandContext): void {
  const analyse = program.command('analyse').alias('analyze').description("the paper's analyses of attention, of any model: docs/analysis.md");
  add(analyse, context, {
    name: 'shift',
    description: 'how attention to a visual token depends on its index, by decoder block',
    addOptions: (command) => command.option('--tokens <n>', 'tokens counted as selected (default: a quarter)', number),
    run: (model, pictures, { tokens }, options) => attentionShift(model, pictures, { ...options, tokens }),
    table: shiftTable,
    draw: drawShift,
  });
  add(analyse, context, {
    name: 'dispersion',
    description: "whether attention gathers on few tokens: the encoder's against the decoder's",
    addOptions: (command) =>
      command
        .option('--block <k>', "the decoder's block (default: 1, the second)", number)
        .option('--bins <n>', 'of the histogram (default: 200)', number),
    run: (model, pictures, { block, bins }, options) => attentionDispersion(model, pictures, { ...options, block, bins }),
    table: dispersionTable,
    draw: drawDispersion,
  });
  add(analyse, context, {
    name: 'quartiles',
    description: 'answers when one quarter of the visual tokens goes on from a block',
    addOptions: (command) => command.option('--depths <list>', 'decoder blocks, as in 0,2,8 (default: all)', numbers),
    run: (model, pictures, { depths }, options) => quartileRetention(model, pictures, { ...options, depths }),
    table: quartilesTable,
    draw: drawQuartiles,
  });
  add(analyse, context, {
    name: 'equal-positions',
    description: 'attention when all visual tokens stand at one position, and answers from what it chooses',
    addOptions: (command) =>
      command
        .option('--block <k>', 'the decoder block whose attention is read (default: 1)', number)
        .option('--tokens <n>', 'visual tokens that go on behind it (default: a quarter)', number)
        .option('--seed <n>', 'of the random choice (default: 0)', number),
    run: (model, pictures, { block, tokens, seed }, options) => equalPositionAttention(model, pictures, { ...options, block, tokens, seed }),
    table: equalPositionsTable,
    draw: drawEqualPositions,
  });
  add(analyse, context, {
    name: 'rank',
    description: 'how many directions the tokens span that methods keep',
    addOptions: (command) =>
      command
        .requiredOption('--tokens <n>', 'visual tokens kept of each crop', number)
        .option('--methods <list>', `as eval takes it, such as vispruner:importantRatio=0.7,random (default: ${RANKED})`)
        .option('--seed <n>', 'of random pruning: of the first picture, the next one has the next (default: 0)', number),
    run: (model, pictures, flags, options) => keptRanks(model, pictures, { ...options, methods: rankedMethods(flags) }),
    table: ranksTable,
    draw: drawRanks,
  });
}

function add<Result>(parent: Command, { signal }: CommandContext, analysis: Analysis<Result>): void {
  const command = parent
    .command(analysis.name)
    .description(analysis.description)
    .argument('[words...]', 'IMAGE... QUESTION; without any, scenes that no training saw and their questions');
  analysis
    .addOptions(addModelOptions(command))
    .option('--images <n>', `how many scenes (default: ${SCENES})`, whole)
    .option('--json', 'print one JSON object')
    .option('--svg <file.svg>', 'draw it')
    .action(async (words: readonly string[], flags: AnalyseFlags) => {
      const { pictures, count } = picturesOf(words, flags.images);
      await withModel(flags, signal, async (model) => {
        const bar = progressBar('Pictures', (value) => String(value));
        const begun = performance.now();
        const progress = (done: number) => bar.update(done, count, (performance.now() - begun) / 1000);
        const result = await analysis.run(model, pictures, flags, { signal, progress }).finally(() => bar.stop());
        if (flags.svg !== undefined) await writeWhole(flags.svg, await analysis.draw(result), signal);
        if (flags.json) printJson({ analysis: analysis.name, model: flags.model, backend: model.backend, result }, signal);
        else print(analysis.table(result), signal);
      });
    });
}

/** @throws UseError `QUESTION_MISSING`; PromptError `OPTION_CONFLICT` for images and a number of scenes */
function picturesOf(words: readonly string[], scenes: number | undefined): { readonly pictures: Iterable<AnalysedPicture>; readonly count: number } {
  if (words.length === 0) return { pictures: scenePictures(scenes ?? SCENES), count: scenes ?? SCENES };
  if (scenes !== undefined) {
    throw new PromptError(
      'OPTION_CONFLICT',
      `--images ${scenes} asks for that many scenes, but images of one's own are given. Leave one of the two out.`,
    );
  }
  const { images, question } = splitWords(words);
  return { pictures: images.map((image) => ({ image, questions: [{ text: question }] })), count: images.length };
}

/** All tokens, and the methods asked for. @throws PruneError for a wrong name, option or budget, before any work */
function rankedMethods({ methods = RANKED, tokens, seed = 0 }: AnalyseFlags): RankedMethod[] {
  const ranked = parseMethods(methods).map(({ label, name, options }) => {
    const drawn = methodNamed(name).options.includes('seed');
    const prune = (picture: number) => ({ method: name, ...options, tokens, ...(drawn ? { seed: seed + picture } : {}) }) as unknown as PruneOptions; // checked by `createPruner`
    createPruner(prune(0));
    return { name: label, prune };
  });
  return [{ name: 'all', prune: () => ({ method: 'none' }) }, ...ranked];
}

function numbers(text: string): number[] {
  return text.split(',').map(number);
}
