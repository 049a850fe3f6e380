/**
 * Questions all day: pruned by every method, in every form, wrong ones, aborted ones, ones that are left early. What is left behind?
 *
 *   npm run leaks -- --questions 1000 [--backend tensorflow] [--model DIR]
 */
import { existsSync, readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs';
import { type BackendName, loadModel } from '../lib/index';
import { machine } from './machine';
import { mix, type Outcome } from './mix';
import { fitted, table } from './statistics';

const IMAGE = 'examples/images/stars.png';
const QUESTION = 'where is the yellow object?';

/** Share of the questions after which memory should no longer grow. */
const WARM = 0.3;
const ROWS = 20;

interface Sample {
  readonly questions: number;
  readonly tensors: number;
  readonly bytes: number;
  /** KiB each. */
  readonly resident: number;
  readonly heap: number;
  /** Of typed arrays and of the wasm heap. */
  readonly external: number;
  readonly files: number;
  readonly resources: string;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      backend: { type: 'string', default: 'wasm' },
      model: { type: 'string', default: 'weights/vispruner-tiny' },
      questions: { type: 'string', default: '1000' },
    },
  });
  const count = Number(values.questions);
  await settled();
  const atFirst = resources();
  const model = await loadModel(values.model, { backend: values.backend as BackendName });
  console.log(`${machine(model.backend)}\n`);
  const begun = performance.now();
  await model.ask(IMAGE, QUESTION);
  const day = await mix(model, IMAGE, QUESTION, performance.now() - begun);
  const every = Math.max(1, Math.round(count / ROWS));
  const outcomes: Record<Outcome, number> = { answered: 0, refused: 0, aborted: 0, 'left early': 0 };
  const samples: Sample[] = [await sample(0)];
  for (let i = 0; i < count; i++) {
    outcomes[await day.ask(i)]++;
    if ((i + 1) % every === 0 || i + 1 === count) samples.push(await sample(i + 1));
  }
  console.log(
    Object.entries(outcomes)
      .map(([name, times]) => `${times} ${name}`)
      .join(', '),
  );
  console.log(`\n${report(samples)}\n`);
  const [first, last] = [samples[0] as Sample, samples.at(-1) as Sample];
  const warm = samples.filter(({ questions }) => questions >= WARM * count);
  for (const name of ['resident', 'heap', 'external'] as const) {
    const { slope, error } = fitted(warm.map((one) => [one.questions, one[name]]));
    console.log(`${name}: ${slope.toFixed(2)} ± ${error.toFixed(2)} KiB a question after the first ${Math.round(WARM * count)} (95%)`);
  }
  day.dispose();
  model.dispose();
  await settled();
  console.log(`open files and active resources before the model was loaded: ${atFirst}; after it was disposed: ${resources()}`);
  if (first.tensors !== last.tensors || first.bytes !== last.bytes) throw new Error('Tensors leaked.');
}

async function sample(questions: number): Promise<Sample> {
  await settled();
  const { numTensors: tensors, numBytes: bytes } = tf.memory();
  const { rss, heapUsed, external } = process.memoryUsage();
  const kib = (value: number) => Math.round(value / 1024);
  return {
    questions,
    tensors,
    bytes,
    resident: kib(rss),
    heap: kib(heapUsed),
    external: kib(external),
    files: openFiles(),
    resources: process.getActiveResourcesInfo().join(' ') || 'none',
  };
}

/** Abandoned reads and decodings have ended, and garbage is collected: node --expose-gc. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 100));
  globalThis.gc?.();
  globalThis.gc?.();
}

function openFiles(): number {
  return existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0;
}

function resources(): string {
  return `${openFiles()}, ${process.getActiveResourcesInfo().join(' ') || 'none'}`;
}

function report(samples: readonly Sample[]): string {
  const header = ['questions', 'tensors', 'bytes', 'resident, KiB', 'JS heap, KiB', 'external, KiB', 'open files', 'active resources'];
  return table(
    header,
    samples.map((one) => Object.values(one).map(String)),
  );
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
