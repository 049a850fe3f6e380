import { type Command, InvalidArgumentError } from 'commander';
import { sceneSamples } from '../tune/samples';
import { readSamples } from '../tune/samples_node';
import { checkTune, TUNERS, tune } from '../tune/tune';
import type { CommandContext } from './context';
import { withModel } from './model';
import { addModelOptions, type ModelOptions, number, whole } from './options';
import { printJson, writeWhole } from './output';
import { progressBar } from './progress';

interface TuneFlags extends ModelOptions {
  readonly samples?: number;
  readonly data?: string;
  readonly budget?: number;
  readonly average?: number;
  readonly set?: Readonly<Record<string, number>>;
  readonly out?: string;
}

const SAMPLES = 20;

/** `vispruner tune`: a method's parameters, searched on the model at hand. */
export function addTune(program: Command, { signal }: CommandContext): void {
  const command = program
    .command('tune')
    .description("search a method's parameters on this model; prints options for --prune-options")
    .argument('<method>', Object.keys(TUNERS).join(', '));
  addModelOptions(command)
    .option('--samples <n>', `how many samples (default: ${SAMPLES} scenes, or all of --data)`, whole)
    .option('--data <file.jsonl>', 'samples of yours, each line {"image": path, "question": text}, in place of scenes')
    .option('--budget <share>', 'share of the visual tokens that enter a decoder block on average', number)
    .option('--average <n>', 'or their number', number)
    .option('--set <name=number>', 'an option of the search; may be given several times', setting)
    .option('--out <file.json>', 'write the options to a file too')
    .option('--json', 'taken as by the other commands; what tune prints is JSON with and without it')
    .addHelpText('after', `\nSearches:\n${searches()}`)
    .action(async (method: string, flags: TuneFlags) => {
      const { average, budget: share, set: options } = flags;
      checkTune(method, { average, share, options });
      const samples = flags.data === undefined ? sceneSamples(flags.samples ?? SAMPLES) : await readSamples(flags.data, flags.samples, signal);
      await withModel(flags, signal, async (model) => {
        const bars = { encode: progressBar('Encoding', String), search: progressBar('Searching', String) };
        const begun = { encode: 0, search: 0 };
        const progress = (done: number, total: number, stage: 'encode' | 'search') => {
          begun[stage] ||= performance.now();
          bars[stage].update(done, total, (performance.now() - begun[stage]) / 1000);
          if (stage === 'encode' && done === total) bars.encode.stop();
        };
        try {
          const found = await tune(model, method, { samples, average, share, options, progress, signal });
          if (flags.out !== undefined) await writeWhole(flags.out, `${JSON.stringify(found)}\n`, signal);
          printJson(found, signal);
        } finally {
          bars.encode.stop();
          bars.search.stop();
        }
      });
    });
}

function searches(): string {
  return Object.entries(TUNERS)
    .map(([name, { about, options, budget }]) => {
      const own = Object.entries(options).map(([option, meaning]) => `      --set ${option}=…  ${meaning}\n`);
      return `  ${name}: ${about}${budget ? '; needs --budget or --average' : ''}\n${own.join('')}`;
    })
    .join('');
}

function setting(text: string, before: Readonly<Record<string, number>> = {}): Record<string, number> {
  const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('Write name=number.');
  return { ...before, [name]: number(value) };
}
