import * as tf from '@tensorflow/tfjs';
import { type AdamW, cosineRate } from './adamw';

/** A stage of training as the loop sees it. */
export interface Stage {
  readonly name: string;
  readonly optimizer: AdamW;
  readonly peakRate: number;
  /** Share of the run over which the learning rate rises. */
  readonly warmUp: number;
  /** How many micro-batches make a step at this point of the run (0 to 1). */
  microBatches(progress: number): number;
  /** Prepares the next micro-batch. */
  next(progress: number): MicroBatch | Promise<MicroBatch>;
  /** What goes to the log beside the loss: accuracies on a fixed set. */
  evaluate(): Promise<string>;
  /** Saves everything that `next` and the optimiser need to go on. */
  save(position: Position): Promise<void>;
}

export interface MicroBatch {
  loss(): tf.Scalar;
  dispose(): void;
}

/** How far a stage has come. */
export interface Position {
  /** Seconds spent on training steps, over all runs. */
  seconds: number;
  steps: number;
}

export interface LoopOptions {
  /** The length of the whole stage: its schedule is laid over this. Exactly one of the two. */
  readonly minutes?: number;
  readonly steps?: number;
  readonly logEvery: number;
  readonly evaluateEverySeconds: number;
  readonly saveEverySeconds: number;
  log(line: string): void;
}

/** Runs a stage from `position` to its end; `position` is advanced. Ends early, after saving, when `signal` is aborted. */
export async function train(stage: Stage, position: Position, options: LoopOptions, signal: AbortSignal): Promise<void> {
  const { optimizer } = stage;
  let lastSave = performance.now();
  let lastEvaluation = performance.now();
  let losses: number[] = [];
  let sinceLog = { steps: position.steps, seconds: position.seconds };
  const progressNow = () => (options.steps === undefined ? position.seconds / ((options.minutes as number) * 60) : position.steps / options.steps);
  while (progressNow() < 1 && !signal.aborted) {
    const start = performance.now();
    const progress = progressNow();
    const micro = stage.microBatches(progress);
    let loss = 0;
    for (let i = 0; i < micro; i++) {
      const batch = await stage.next(progress);
      const value = optimizer.accumulate(() => batch.loss());
      loss += ((await value.data())[0] as number) / micro;
      value.dispose();
      batch.dispose();
    }
    const norm = optimizer.step(cosineRate(stage.peakRate, progress, stage.warmUp));
    const gradient = (await norm.data())[0] as number;
    norm.dispose();
    position.steps++;
    position.seconds += (performance.now() - start) / 1000;
    losses.push(loss);
    if (!Number.isFinite(loss))
      throw new Error(
        `Stage ${stage.name}: the loss is ${loss} at step ${position.steps}; lower the learning rate and go on from the last checkpoint with --resume.`,
      );
    if (position.steps % options.logEvery === 0) {
      const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
      const pace = (position.seconds - sinceLog.seconds) / (position.steps - sinceLog.steps);
      options.log(
        `${stage.name} step ${position.steps} ${(100 * progress).toFixed(1)}% loss ${mean.toFixed(4)} gradient ${gradient.toFixed(2)} ${pace.toFixed(2)} s/step tensors ${tf.memory().numTensors}`,
      );
      losses = [];
      sinceLog = { ...position };
    }
    const now = performance.now();
    if (now - lastEvaluation > options.evaluateEverySeconds * 1000) {
      options.log(`${stage.name} step ${position.steps} ${await stage.evaluate()}`);
      lastEvaluation = performance.now();
    }
    if (now - lastSave > options.saveEverySeconds * 1000) {
      await stage.save(position);
      lastSave = performance.now();
    }
    await new Promise<void>((resolve) => setImmediate(resolve)); // let signals in
  }
  await stage.save(position);
  options.log(`${stage.name} step ${position.steps} ${signal.aborted ? 'interrupted' : 'done'}: ${await stage.evaluate()}`);
}
