/**
 * Trains the shipped model: `npm run train`. Stages: 0 the decoder on symbolic scenes, 1 the encoder, 2 projector and decoder on the encoder's features.
 * docs/training.md describes the recipe and its options.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { Command, InvalidArgumentError } from 'commander';
import { BackendError, ConfigError, StateError, VisPrunerError } from '../../layers/errors';
import { loadNative } from '../backend/native/load_node';
import { AdamW } from './adamw';
import { DecoderModel } from './decoder_model';
import { deepened } from './deepen';
import { exportModel } from './export_node';
import { type LoopOptions, type Position, type Stage, train } from './loop';
import { DECODER_INITIAL, DEEP_BLOCKS, PROJECTOR_PATH, TEXT_SHAPE, VISION_INITIAL, VISION_PATH } from './recipe';
import { Stage0 } from './stage0';
import { Stage1 } from './stage1';
import { Stage2, standardiseProjector, symbolicTable } from './stage2';
import { readArrays, restoreState, saveState } from './state_node';
import { type NamedArray, type NamedArrays, VariableSource } from './variables';
import { VisionModel } from './vision_model';

/*
 * glibc returns large blocks to the system and maps them anew for every operation, and fresh pages are slow; kept, they cost nothing.
 * The settings are read when a process starts, so training runs in a second process that has them.
 */
const MEMORY_SETTINGS: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '1000000000000',
  MALLOC_TOP_PAD_: '268435456',
};

/** Length of each stage as the shipped model was trained. */
const DEFAULT_MINUTES: Readonly<Record<string, number>> = { 0: 38, 1: 80, 2: 55, deep: 60 };
/** Two minutes or so: the projector is small and its target is given. */
const ALIGNMENT_STEPS = 400;

/** Where a continued stage 1 starts to count its scenes, behind those of the first run. */
const FRESH_SCENES = 1 << 22;

interface Options {
  readonly stage: string;
  readonly minutes?: number;
  readonly steps?: number;
  readonly resume: boolean;
  readonly overfit?: number;
  readonly folder: string;
  readonly threads: number;
  readonly rate?: number;
  readonly subsets: boolean;
  readonly out: string;
  readonly align: number;
  readonly from?: string;
  readonly model: string;
  readonly deepOut: string;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
}

async function runStage1(options: Options, loop: LoopOptions, signal: AbortSignal): Promise<void> {
  const file = path.join(options.folder, 'stage1.safetensors');
  const source = new VariableSource(VISION_INITIAL, 1);
  const model = new VisionModel(source.parameters);
  if (options.from !== undefined) source.import(await readArrays(options.from));
  const optimizer = new AdamW(source.trainables);
  const data = new Stage1(model, optimizer, { overfit: options.overfit });
  const found = options.resume ? await restoreState(file, source, optimizer) : undefined;
  const position: Position = found?.position ?? { seconds: 0, steps: 0 };
  data.cursor = found?.cursor ?? (options.from === undefined ? 0 : FRESH_SCENES);
  const stage: Stage = {
    name: 'stage1',
    optimizer,
    peakRate: options.rate ?? 1.5e-3,
    warmUp: 0.04,
    microBatches: (progress) => data.microBatches(progress),
    next: (progress) => data.next(progress),
    evaluate: () => data.evaluate(),
    save: (at) => saveState(file, source, optimizer, at, data.cursor),
  };
  await train(stage, position, loop, signal);
}

async function runStage0(options: Options, loop: LoopOptions, signal: AbortSignal): Promise<void> {
  const file = path.join(options.folder, 'stage0.safetensors');
  const source = new VariableSource(DECODER_INITIAL, 2);
  const model = new DecoderModel(source.parameters);
  const data = new Stage0(model, source.parameters, options.overfit);
  const optimizer = new AdamW(source.trainables);
  const found = options.resume ? await restoreState(file, source, optimizer) : undefined;
  data.cursor = found?.cursor ?? 0;
  const stage: Stage = {
    name: 'stage0',
    optimizer,
    peakRate: options.rate ?? 1.5e-3,
    warmUp: 0.04,
    microBatches: () => data.microBatches(),
    next: () => data.next(),
    evaluate: () => data.evaluate(),
    save: (at) => saveState(file, source, optimizer, at, data.cursor),
  };
  await train(stage, found?.position ?? { seconds: 0, steps: 0 }, loop, signal);
}

function stage2File(options: Options): string {
  return path.join(options.folder, options.subsets ? 'stage2.safetensors' : 'stage2-all-tokens.safetensors');
}

/** Stages 1 and 0 must have left their states; the projector is aligned first unless the run is resumed. */
async function runStage2(options: Options, loop: LoopOptions, signal: AbortSignal): Promise<void> {
  const file = stage2File(options);
  const before = (stage: string) => {
    const found = path.join(options.folder, `${stage}.safetensors`);
    if (!fs.existsSync(found))
      throw new StateError('STAGE_MISSING', `Stage 2 starts from ${found}, which is not there. Run --stage ${stage.slice(-1)} first.`);
    return readArrays(found);
  };
  const visionSource = new VariableSource(VISION_INITIAL, 1);
  const vision = new VisionModel(visionSource.parameters);
  visionSource.import(await before('stage1'));
  const stage0 = await before('stage0');
  const source = new VariableSource(DECODER_INITIAL, 2);
  const model = new DecoderModel(source.parameters);
  source.import(new Map([...stage0].filter(([name]) => !name.startsWith(PROJECTOR_PATH))));
  await standardiseProjector(source, vision);
  if (options.from !== undefined) source.import(await readArrays(options.from));
  const symbolic = symbolicTable(stage0.get('symbolic.weight') as { shape: readonly number[]; data: Float32Array });
  const data = new Stage2(model, vision, { subsets: options.subsets, overfit: options.overfit }, symbolic);
  const aligned = new AdamW(source.trainables.filter(({ name }) => name.startsWith(PROJECTOR_PATH)));
  const alignment: Stage = {
    name: 'align',
    optimizer: aligned,
    peakRate: 2e-3,
    warmUp: 0.05,
    microBatches: () => 1,
    next: () => data.nextAlignment(),
    evaluate: () => data.evaluate(),
    save: async () => {},
  };
  const optimizer = () => new AdamW(source.trainables);
  let both = optimizer();
  const found = options.resume ? await restoreState(file, source, both) : undefined;
  if (!found && options.from === undefined) {
    both.dispose();
    await train(alignment, { seconds: 0, steps: 0 }, { ...loop, minutes: undefined, steps: options.align, logEvery: 50 }, signal);
    both = optimizer(); // it holds the values that it starts from
  }
  aligned.dispose();
  data.cursor = found?.cursor ?? data.cursor;
  const stage: Stage = {
    name: 'stage2',
    optimizer: both,
    peakRate: options.rate ?? 1e-3,
    warmUp: 0.02,
    microBatches: () => 2,
    next: () => data.next(),
    evaluate: () => data.evaluate(),
    save: (at) => saveState(file, source, both, at, data.cursor),
  };
  await train(stage, found?.position ?? { seconds: 0, steps: 0 }, loop, signal);
}

function deepFile(options: Options): string {
  return path.join(options.folder, 'deep.safetensors');
}

/** The shipped model with a deeper decoder: it begins as the same function, and projector and decoder go on learning as in stage 2. */
async function runDeep(options: Options, loop: LoopOptions, signal: AbortSignal): Promise<void> {
  const file = deepFile(options);
  const shipped = await readArrays(path.join(options.model, 'model.safetensors'));
  const visionSource = new VariableSource(VISION_INITIAL, 1);
  const vision = new VisionModel(visionSource.parameters);
  visionSource.import(flatPatches(shipped));
  const source = new VariableSource(DECODER_INITIAL, 2);
  const model = new DecoderModel(source.parameters, { ...TEXT_SHAPE, num_hidden_layers: DEEP_BLOCKS });
  source.import(deepened(shipped, DEEP_BLOCKS));
  const data = new Stage2(model, vision, { subsets: options.subsets, overfit: options.overfit });
  const optimizer = new AdamW(source.trainables);
  const found = options.resume ? await restoreState(file, source, optimizer) : undefined;
  data.cursor = found?.cursor ?? FRESH_SCENES;
  const stage: Stage = {
    name: 'deep',
    optimizer,
    peakRate: options.rate ?? 6e-4,
    warmUp: 0.05,
    microBatches: () => 2,
    next: () => data.next(),
    evaluate: () => data.evaluate(),
    save: (at) => saveState(file, source, optimizer, at, data.cursor),
  };
  await train(stage, found?.position ?? { seconds: 0, steps: 0 }, loop, signal);
}

/** A checkpoint's convolution weights [out, channels, patch, patch] as the product's [out, in]. */
function flatPatches(arrays: NamedArrays): NamedArrays {
  const flat = ([name, array]: [string, NamedArray]): [string, NamedArray] =>
    name.endsWith('patch_embedding.weight')
      ? [name, { ...array, shape: [array.shape[0] as number, array.data.length / (array.shape[0] as number)] }]
      : [name, array];
  return new Map([...arrays].map(flat));
}

async function runExportDeep(options: Options): Promise<void> {
  const shipped = await readArrays(path.join(options.model, 'model.safetensors'));
  const vision = [...flatPatches(shipped)].filter(([name]) => name.startsWith(VISION_PATH) && !name.includes('post_layernorm'));
  await exportModel(
    options.deepOut,
    new Map([...vision, ...(await readArrays(deepFile(options)))]),
    { trained_by: 'npm run train -- --stage deep' },
    DEEP_BLOCKS,
  );
  console.log(`Exported to ${options.deepOut}.`);
}

/** The shipped directory from the states of stages 1 and 2. */
async function runExport(options: Options): Promise<void> {
  const vision = await readArrays(path.join(options.folder, 'stage1.safetensors'));
  const rest = await readArrays(stage2File(options));
  await exportModel(options.out, new Map([...vision, ...rest]), { trained_by: 'npm run train' });
  console.log(`Exported to ${options.out}.`);
}

async function main(): Promise<void> {
  const command = new Command('train')
    .option(
      '--stage <n>',
      'which stage: 0, 1, 2, export, all of them in turn; or deep, export-deep, for a deeper decoder from the shipped model',
      'all',
    )
    .option('--minutes <m>', 'length of a stage in minutes of training (default: 38, 80 and 55)', positive)
    .option('--steps <n>', 'length of the stage in steps', positive)
    .option('--resume', 'go on from the last checkpoint', false)
    .option('--overfit <n>', 'train on the first n scenes only', positive)
    .option('--folder <path>', 'where checkpoints and logs go', 'runs/train')
    .option('--threads <n>', 'threads of one operation', positive, 1)
    .option('--from <state>', 'start a stage, with a schedule of its own, from the values in this state')
    .option('--align <steps>', 'steps of stage 2 in which the projector alone learns', positive, ALIGNMENT_STEPS)
    .option('--out <path>', 'where the finished model goes', 'weights/vispruner-tiny')
    .option('--model <path>', 'the model that deep starts from', 'weights/vispruner-tiny')
    .option('--deep-out <path>', 'where the finished deep model goes', 'weights/vispruner-tiny-deep')
    .option('--no-subsets', 'stage 2 always sees all visual tokens')
    .option('--rate <r>', 'peak learning rate', positive);
  const options = command.parse().opts<Options>();
  if (process.env.MALLOC_MMAP_MAX_ === undefined) {
    const env = { ...process.env, ...MEMORY_SETTINGS, TF_NUM_INTRAOP_THREADS: String(options.threads), TF_NUM_INTEROP_THREADS: '1' };
    process.exitCode = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { env, stdio: 'inherit' }).status ?? 1;
    return;
  }
  if (loadNative() === undefined || (await tf.setBackend('tensorflow')) !== true) {
    throw new BackendError('BACKEND_UNAVAILABLE', 'Training needs the native backend. Get it with "vispruner doctor --install-native".');
  }
  fs.mkdirSync(options.folder, { recursive: true });
  const logFile = path.join(options.folder, `stage${options.stage}.log`);
  const loopOf = (stage: string): LoopOptions => ({
    minutes: options.minutes ?? (options.steps === undefined ? DEFAULT_MINUTES[stage] : undefined),
    steps: options.steps,
    logEvery: 20,
    evaluateEverySeconds: 120,
    saveEverySeconds: 120,
    log: (line) => {
      const stamped = `${new Date().toISOString().slice(11, 19)} ${line}`;
      console.log(stamped);
      fs.appendFileSync(logFile, `${stamped}\n`);
    },
  });
  const interruption = new AbortController();
  process.once('SIGINT', () => interruption.abort());
  process.once('SIGTERM', () => interruption.abort());
  const stages: Readonly<Record<string, () => Promise<void>>> = {
    0: () => runStage0(options, loopOf('0'), interruption.signal),
    1: () => runStage1(options, loopOf('1'), interruption.signal),
    2: () => runStage2(options, loopOf('2'), interruption.signal),
    export: () => runExport(options),
    deep: () => runDeep(options, loopOf('deep'), interruption.signal),
    'export-deep': () => runExportDeep(options),
  };
  const wanted = options.stage === 'all' ? ['0', '1', '2', 'export'] : [options.stage];
  for (const name of wanted) {
    const run = stages[name];
    if (!run) throw new ConfigError('BAD_OPTION', `--stage is "${name}"; it can be ${Object.keys(stages).join(', ')} or all.`);
    if (!interruption.signal.aborted) await run();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof VisPrunerError ? `${error.code}: ${error.message}` : error);
  process.exitCode = 1;
});
