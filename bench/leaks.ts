import * as tf from '@tensorflow/tfjs';
import { type PruneOptions, type VisionLanguageModel, VisPrunerError } from '../lib/index';

export interface LeakReport {
  readonly before: tf.MemoryInfo;
  readonly after: tf.MemoryInfo;
  readonly answered: number;
  readonly refused: number;
  readonly aborted: number;
}

/** Methods and budgets of the questions, in turn. */
const PRUNES: readonly PruneOptions[] = [
  { method: 'vispruner', tokens: 28 },
  { method: 'none' },
  { method: 'fastv', tokens: 28, layer: 2 },
  { method: 'random', tokens: 14, seed: 1 },
  { method: 'cls-top-k', keepRatio: 0.22 },
  { method: 'dedup', tokens: 56 },
];

/** Requests that must fail: before any work, while the image is read, and with a budget that only the image shows to be too large. */
const WRONG: readonly ((model: VisionLanguageModel, image: string, question: string) => Promise<unknown>)[] = [
  (model, image, question) => model.ask(image, question, { temperature: -1 }),
  (model, _, question) => model.ask('no-such-image.png', question),
  (model, image, question) => model.ask(image, question, { prune: { method: 'vispruner', tokens: 100000 } }),
  (model, image, question) => model.ask([image, image], question, { prune: { method: 'fastv', tokens: 8, layer: 1000 } }),
];

/** Tensors before and after `count` questions; every fifth fails, every fifth is aborted at some moment, every tenth is left after its first piece. */
export async function leaks(model: VisionLanguageModel, image: string, question: string, count: number): Promise<LeakReport> {
  await model.ask(image, question); // what is made once is made now
  const before = tf.memory();
  const longest = await milliseconds(() => model.ask(image, question));
  const counts = { answered: 0, refused: 0, aborted: 0 };
  for (let i = 0; i < count; i++) {
    const prune = PRUNES[i % PRUNES.length] as PruneOptions;
    const wrong = WRONG[Math.floor(i / 5) % WRONG.length] as (typeof WRONG)[number];
    let outcome: keyof typeof counts = 'answered';
    if (i % 5 === 1) outcome = await refused(() => wrong(model, image, question));
    else if (i % 5 === 3) outcome = await aborted(model, image, question, prune, (longest * ((i * 7) % count)) / count);
    else if (i % 10 === 7) for await (const _ of model.stream(image, question, { prune })) break;
    else await model.ask(image, question, { prune });
    counts[outcome]++;
  }
  return { before, after: tf.memory(), ...counts };
}

async function refused(run: () => Promise<unknown>): Promise<'refused'> {
  try {
    await run();
  } catch (error) {
    if (error instanceof VisPrunerError) return 'refused';
    throw error;
  }
  throw new Error('A wrong request was answered.');
}

async function aborted(
  model: VisionLanguageModel,
  image: string,
  question: string,
  prune: PruneOptions,
  delay: number,
): Promise<'aborted' | 'answered'> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), delay);
  try {
    await model.ask(image, question, { prune, signal: controller.signal });
    return 'answered'; // faster than the abort
  } catch (error) {
    if (controller.signal.aborted) return 'aborted';
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function milliseconds(run: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await run();
  return performance.now() - begun;
}
