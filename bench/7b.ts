/**
 * LLaVA-1.5-7B's shape with random weights: an answer's first token, its other tokens, the choice of patches and memory at several budgets, beside the
 * bare products of the same shapes, in one run and in turns:
 *
 *   npm run bench:7b [-- --blocks 4] [--dtype auto] [--rounds 3] [--tokens 16] [--budgets 576,192,128,64,32] [--model DIR] [--python PATH]
 *
 * The model is the one that `npm run bench:make-7b` writes to runs/7b-BLOCKS; it is written first where it is absent. With fewer than 32 decoder
 * blocks, times are those of 32: what is spent in the blocks counts as often as 32 blocks have their work (of a prompt's last one, only keys and values
 * are of all rows), everything else (tower, choice, projector, head) once. Memory is as measured. Lowest of several rounds. "Processor": what this
 * process computed, on all cores, which other programs hardly change. --python: a Python with torch and transformers, which is measured in turns with
 * us, at the most and the fewest visual tokens.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs';
import { type BackendName, type GenerateResult, loadModel, type Timing, type TokenModel, type WeightDtype } from '../lib/index';
import { BareProducts } from './bare_7b';
import { clocked } from './clock';
import { IMAGE_SIDE, IMAGE_TOKEN, PATCHES, WIDTH } from './llava_7b';
import { machine } from './machine';
import { peakMemory, resetPeakMemory } from './memory';
import { Peer } from './peer_7b';
import { type Budget, keepLowest, newBudget, reportBare, reportHere, reportRatios, type Sample } from './report_7b';

const TEXT = 64;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      blocks: { type: 'string', default: '4' },
      dtype: { type: 'string', default: 'auto' },
      backend: { type: 'string', default: 'tensorflow' },
      rounds: { type: 'string', default: '3' },
      tokens: { type: 'string', default: '16' },
      budgets: { type: 'string', default: '576,192,128,64,32' },
      model: { type: 'string' },
      python: { type: 'string' },
    },
  });
  const budgets = values.budgets.split(',').map((count) => newBudget(Number(count)));
  const directory = values.model ?? `runs/7b-${values.blocks}`;
  if (!existsSync(directory)) make(directory, values.blocks);

  resetPeakMemory();
  const before = peakMemory();
  console.error('loading');
  const begun = performance.now();
  let bytes = 0;
  const model = await loadModel(directory, {
    backend: values.backend as BackendName,
    dtype: values.dtype as WeightDtype,
    progress: ({ totalBytes }) => {
      bytes = totalBytes;
    },
  });
  const load = { seconds: (performance.now() - begun) / 1000, bytes, peak: peakMemory(), before };
  const { num_hidden_layers: blocks, hidden_size: width } = model.config.text_config;
  if (width !== WIDTH) throw new Error(`${directory} is ${width} wide, LLaVA-1.5-7B ${WIDTH}. Give a model of its shape.`);
  const subject = new Subject(model, Number(values.tokens));

  for (const budget of [...budgets].reverse()) {
    // the fewest tokens first: TensorFlow does not give back what it used once
    console.error(`memory of ${budget.tokens} visual tokens`);
    resetPeakMemory();
    await subject.measure(budget);
    budget.peak = peakMemory();
  }
  const bare = await BareProducts.make(
    model.dtype,
    model.backend,
    budgets.map(({ tokens }) => tokens),
    TEXT,
  );
  console.error('the fastest way of each bare product');
  bare.choose();
  if (values.python) console.error('loading in transformers');
  const peer = values.python ? await Peer.start(values.python, directory, blocks, Number(values.tokens)) : undefined;
  for (let round = 0; round < Number(values.rounds); round++) {
    console.error(`round ${round + 1} of ${values.rounds}`);
    subject.measureHead();
    bare.measureTower();
    for (const budget of budgets) {
      keepLowest(budget, await subject.measure(budget), blocks);
      bare.measureBudget(budget.tokens, TEXT);
      if (budget === budgets[0] || budget === budgets.at(-1)) await peer?.measure(budget, TEXT);
    }
  }
  const facts = { blocks, dtype: model.dtype, text: TEXT, head: subject.head, load, budgets };
  console.log(`${machine(model.backend)}\n${reportHere(facts)}\n\n${reportBare(facts, bare)}\n\n${reportRatios(facts, bare)}`);
  if (peer) console.log(`\n${peer.report(facts)}`);
  peer?.stop();
  for (const warning of model.warnings) console.log(warning);
  model.dispose();
}

/** The model at work. */
class Subject {
  /** Lowest milliseconds of the norm and the head, for one row. */
  head = Number.POSITIVE_INFINITY;
  private readonly image = {
    pixelValues: tf.randomNormal<tf.Rank.R4>([1, IMAGE_SIDE, IMAGE_SIDE, 3], 0, 1, 'float32', 1),
    originalSize: { width: IMAGE_SIDE, height: IMAGE_SIDE },
    grid: { rows: Math.sqrt(PATCHES), columns: Math.sqrt(PATCHES) },
  };
  private readonly inputIds = [1, IMAGE_TOKEN, ...Array.from({ length: TEXT - 1 }, (_, i) => 100 + 7 * i)];

  constructor(
    private readonly model: TokenModel,
    private readonly newTokens: number,
  ) {}

  /** An image and a question, from pixels to the last of the new tokens. */
  async measure({ tokens }: Budget): Promise<Sample> {
    const prune = tokens === PATCHES ? ({ method: 'none' } as const) : ({ method: 'vispruner', tokens } as const);
    const { value: images, ...encode } = await clocked(() => this.model.encodeImages([this.image], { prune }));
    try {
      const options = { prune, maxNewTokens: this.newTokens + 1, minNewTokens: this.newTokens + 1 };
      const stream = this.model.tokens([{ inputIds: this.inputIds, images }], options);
      const first = await clocked(() => stream.next(false));
      const { value: timing, ...rest } = await clocked(() => timingOf(stream));
      return {
        encode,
        select: timing.select,
        prefill: timing.prefill,
        first: { passed: timing.firstToken, processor: first.processor },
        step: { passed: timing.decode / this.newTokens, processor: rest.processor / this.newTokens },
      };
    } finally {
      images.dispose();
    }
  }

  measureHead(): void {
    const { language } = this.model.layers;
    const states = tf.randomNormal<tf.Rank.R2>([1, language.shape.hidden_size], 0, 1, 'float32', 1);
    for (let i = 0; i < 10; i++) {
      const begun = performance.now();
      language.logits(states).dispose();
      this.head = Math.min(this.head, performance.now() - begun);
    }
    states.dispose();
  }
}

/** Reads a stream to its end. */
async function timingOf(stream: ReturnType<TokenModel['tokens']>): Promise<Timing> {
  for (;;) {
    const step = await stream.next(false);
    if (step.done) return (step.value[0] as GenerateResult).timing;
  }
}

function make(directory: string, blocks: string): void {
  console.error(`${directory} is not there and is written first.`);
  execFileSync(process.execPath, ['-r', 'ts-node/register', 'bench/make_7b.ts', directory, '--blocks', blocks], { stdio: 'inherit' });
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
