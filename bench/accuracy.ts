/**
 * Accuracy of the model that comes with the project, on scenes that it never saw, by type of question and by budget of visual tokens.
 *
 *   npm run accuracy                                        the whole table
 *   npm run accuracy -- --questions 300 --methods vispruner,random --budgets 0.11,0.056
 *   npm run accuracy -- --backend wasm --model DIR --results FILE --json table.json
 *   npm run accuracy -- --backend tensorflow --dtype int8 --results runs/int8.jsonl
 *
 * Each scene's answers are written to the results file as they come: an interrupted run goes on where it stopped. A file of another model or
 * other options is refused; --fresh starts it anew.
 */
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { SingleBar } from 'cli-progress';
import {
  accuracies,
  accuracyMarkdown,
  type BackendName,
  BUDGETS,
  COMPARED_METHODS,
  type ComparedMethod,
  conditionsOf,
  evaluate,
  evaluatedModel,
  loadModel,
  type SceneRecord,
  type WeightDtype,
} from '../lib/index';
import { machine } from './machine';

/** What a results file must agree in, so that its lines may be counted together. */
interface Header {
  readonly weights: string;
  readonly dtype: WeightDtype;
  readonly conditions: readonly string[];
}

function readArguments() {
  const { values } = parseArgs({
    options: {
      model: { type: 'string', default: 'weights/vispruner-tiny' },
      backend: { type: 'string', default: 'auto' },
      dtype: { type: 'string', default: 'auto' },
      questions: { type: 'string', default: '2000' },
      methods: { type: 'string', default: COMPARED_METHODS.join(',') },
      budgets: { type: 'string', default: BUDGETS.join(',') },
      seeds: { type: 'string', default: '1,2,3' },
      ratio: { type: 'string', default: '0.5' },
      blind: { type: 'boolean', default: true },
      results: { type: 'string', default: 'runs/accuracy.jsonl' },
      json: { type: 'string' },
      fresh: { type: 'boolean', default: false },
    },
    allowNegative: true,
  });
  const methods = values.methods.split(',').filter(Boolean);
  const unknown = methods.filter((method) => !COMPARED_METHODS.includes(method as ComparedMethod));
  if (unknown.length > 0) throw new Error(`Unknown method "${unknown.join(', ')}". Known: ${COMPARED_METHODS.join(', ')}.`);
  const numbers = (name: 'questions' | 'budgets' | 'seeds' | 'ratio'): number[] =>
    values[name]
      .split(',')
      .filter(Boolean)
      .map((text) => {
        const value = Number(text);
        if (!(value >= 0)) throw new Error(`--${name} has "${text}". Give numbers of 0 or more.`);
        return value;
      });
  return {
    ...values,
    questions: numbers('questions')[0] ?? 0,
    methods: methods as ComparedMethod[],
    budgets: numbers('budgets'),
    seeds: numbers('seeds'),
    ratio: numbers('ratio')[0] ?? 0.5,
  };
}

/** Earlier records; a last line that an interruption cut off is dropped from the file too. */
function openResults(file: string, header: Header, fresh: boolean): SceneRecord[] {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  if (fresh || !fs.existsSync(file)) {
    fs.writeFileSync(file, `${JSON.stringify(header)}\n`);
    return [];
  }
  const whole = fs.readFileSync(file, 'utf8').split('\n').slice(0, -1);
  if (whole[0] !== JSON.stringify(header)) {
    throw new Error(`${file} holds results of another model or of other options. Give another --results FILE, or --fresh to write it anew.`);
  }
  fs.writeFileSync(file, `${whole.join('\n')}\n`);
  return whole.slice(1).map((line) => JSON.parse(line) as SceneRecord);
}

function weightsDigest(directory: string): string {
  const hash = crypto.createHash('sha256');
  for (const file of fs.readdirSync(directory).sort()) {
    if (/\.(safetensors|json|jinja)$/.test(file)) hash.update(file).update(fs.readFileSync(path.join(directory, file)));
  }
  return hash.digest('hex').slice(0, 16);
}

async function main(): Promise<void> {
  const options = readArguments();
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort(new Error(`Interrupted; the same command goes on from ${options.results}.`)));
  const model = await loadModel(options.model, {
    backend: options.backend as BackendName | 'auto',
    dtype: options.dtype as WeightDtype | 'auto',
    signal: interrupt.signal,
  });
  const { config } = model;
  if (config.model_type !== 'llava') throw new Error(`${options.model} has no vision tower.`);
  const conditions = conditionsOf({
    methods: options.methods,
    budgets: options.budgets,
    randomSeeds: options.seeds,
    blind: options.blind,
    importantRatio: options.ratio,
    patches: (config.vision_config.image_size / config.vision_config.patch_size) ** 2,
    decoderBlocks: config.text_config.num_hidden_layers,
  });
  const header: Header = {
    weights: weightsDigest(options.model),
    dtype: model.dtype,
    conditions: conditions.map(({ key, row }) => `${row}: ${key}`),
  };
  const records = openResults(options.results, header, options.fresh);
  const begun = performance.now();
  const bar = process.stderr.isTTY
    ? new SingleBar({ format: 'questions {bar} {value}/{total} | {eta_formatted} left', stream: process.stderr, clearOnComplete: true })
    : undefined;
  let asked = records.reduce((sum, { questions }) => sum + questions.length, 0);
  const before = asked;
  bar?.start(options.questions, asked);
  try {
    for await (const record of evaluate(evaluatedModel(model), {
      conditions,
      questions: options.questions,
      done: records.slice(),
      signal: interrupt.signal,
    })) {
      records.push(record);
      fs.appendFileSync(options.results, `${JSON.stringify(record)}\n`);
      asked += record.questions.length;
      bar?.update(Math.min(asked, options.questions));
    }
  } finally {
    bar?.stop();
  }
  const found = accuracies(records, conditions);
  const seconds = (performance.now() - begun) / 1000;
  console.log(`${machine(model.backend)}\n${options.model}, weights ${header.weights}, held in ${header.dtype}`);
  console.log(
    `${asked} questions about ${records.length} held-out scenes, ${conditions.length} conditions; ${asked - before} asked now in ${seconds.toFixed(0)} s\n`,
  );
  console.log(accuracyMarkdown(found));
  if (options.json)
    fs.writeFileSync(options.json, `${JSON.stringify({ ...header, questions: asked, scenes: records.length, accuracies: found }, null, 2)}\n`);
  model.dispose();
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
