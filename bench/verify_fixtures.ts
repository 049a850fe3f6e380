import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { type BackendName, loadModel, readSafetensors, type SafetensorsFile, type VisionLanguageModel } from '../lib/index';

// What transformers was recorded to give, and how far this package may be from it: as in __tests__/parity.

export const FIXTURES: string = path.join(__dirname, '..', '__tests__', 'fixtures');
export const SHIPPED: string = path.join(__dirname, '..', 'weights', 'vispruner-tiny');
const IMAGES = path.join(__dirname, '..', 'examples', 'images');

/** Of the largest recorded value; TF32 has 10 bits of fraction in place of 23. */
const TOLERANCE = { exact: 1e-4, tf32: 2e-2 } as const;

export interface Finding {
  readonly what: string;
  readonly found: string;
  /** Undefined where nothing is judged. */
  readonly right?: boolean;
}

type Outcome = Omit<Finding, 'what'>;

interface Recorded {
  readonly name: string;
  readonly config: object;
  readonly images: number;
  readonly input_ids: readonly number[];
  readonly greedy: readonly number[];
  readonly margins: readonly number[];
  readonly method?: 'vispruner' | 'fastv';
  readonly tokens: number;
  readonly importantRatio?: number;
  readonly layer?: number;
  readonly kept?: readonly number[];
}

interface HalfRecorded {
  readonly name: string;
  readonly dtype: string;
  readonly input_ids: readonly number[];
  readonly greedy: readonly number[];
  readonly margins: readonly number[];
}

function json<T>(...names: string[]): T {
  return JSON.parse(readFileSync(path.join(FIXTURES, ...names), 'utf8')) as T;
}

async function values(file: SafetensorsFile, name: string): Promise<Float32Array> {
  const tensor = await file.tensor(name);
  try {
    return Float32Array.from(await tensor.data());
  } finally {
    tensor.dispose();
  }
}

/** Recorded pixels [images, 3, H, W] as prepared images. */
async function prepared(
  file: SafetensorsFile,
  count: number,
): Promise<{ pixelValues: tf.Tensor4D; originalSize: { width: number; height: number }; grid: { rows: number; columns: number } }[]> {
  const pixels = await file.tensor('pixel_values');
  const [, , height, width] = pixels.shape as [number, number, number, number];
  const images = Array.from({ length: count }, (_, i) => ({
    pixelValues: tf.tidy(() => tf.transpose<tf.Tensor4D>(tf.slice(pixels as tf.Tensor4D, [i, 0, 0, 0], [1, -1, -1, -1]), [0, 2, 3, 1])),
    originalSize: { width, height },
    grid: { rows: 4, columns: 4 },
  }));
  pixels.dispose();
  return images;
}

/** How many tokens are chosen by more than this. */
function surely(margins: readonly number[], least: number): number {
  const first = margins.findIndex((margin) => margin <= least);
  return first < 0 ? margins.length : first;
}

/** The cases of the fixture "gqa" that its config.json is for. */
export function float32Cases(exact: boolean): { title: string; run: (model: VisionLanguageModel, reference: SafetensorsFile) => Promise<Outcome> }[] {
  const { cases } = json<{ cases: Recorded[] }>('gqa', 'reference.json');
  const tolerance = exact ? TOLERANCE.exact : TOLERANCE.tf32;
  const whole = cases.filter(({ config, method }) => Object.keys(config).length === 0 && method !== 'fastv');
  return whole.map((one) => ({
    title: `gqa ${one.name}: logits, greedy ids`,
    async run(model, reference) {
      const expected = await values(reference, `${one.name}.logits`);
      const images = await prepared(reference, one.images);
      const prune =
        one.method === 'vispruner' ? ({ method: 'vispruner', tokens: one.tokens, importantRatio: one.importantRatio } as const) : undefined;
      const request = { inputIds: one.input_ids, images };
      const { logits, visual } = await model.forward(request, { prune });
      const found = Float32Array.from(await logits.data());
      const { ids } = await model.generate(request, { prune, maxNewTokens: one.greedy.length, temperature: 0 });
      tf.dispose([logits, ...images.map(({ pixelValues }) => pixelValues)]);
      const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
      const error = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (found[i] as number))), 0) / largest;
      const sure = surely(one.margins, 2 * tolerance * largest);
      const same = one.greedy.slice(0, sure).every((id, i) => id === ids[i]);
      const kept = one.kept === undefined || one.kept.join() === visual[0]?.kept.join();
      return {
        found: `error ${error.toExponential(1)} of ${tolerance.toExponential(0)}; ${same ? 'the' : 'OTHER'} ids${kept ? '' : '; OTHER patches kept'}`,
        right: found.length === expected.length && error <= tolerance && same && (kept || !exact),
      };
    },
  }));
}

/** The noise of the type is how far transformers in it is from transformers in float32; we are to be within it. */
export function halfCases(dtype: string): { title: string; run: (half: SafetensorsFile, backend: BackendName) => Promise<Outcome> }[] {
  const { cases } = json<{ cases: HalfRecorded[] }>('half.json');
  const some = cases.filter((one) => one.dtype === dtype && ['gqa', 'tiny-llava-hf', 'vispruner-tiny'].includes(one.name));
  return some.map(({ name, input_ids, greedy, margins }) => ({
    title: `${name}: logits, greedy ids`,
    async run(half, backend) {
      const [rounded, exact] = [await values(half, `${name}.${dtype}.half`), await values(half, `${name}.${dtype}.float32`)];
      const noise = rms(rounded, exact);
      const model = await loadModel(name === 'vispruner-tiny' ? SHIPPED : path.join(FIXTURES, name), { backend, dtype: dtype as 'bfloat16' });
      const images = await imagesOf(name, model);
      try {
        const { logits } = await model.forward({ inputIds: input_ids, images });
        const all = Float32Array.from(await logits.data());
        logits.dispose();
        const error = rms(all.subarray(all.length - exact.length), exact);
        const { ids } = await model.generate({ inputIds: input_ids, images }, { maxNewTokens: greedy.length, temperature: 0 });
        const same = greedy.slice(0, surely(margins, 8 * noise)).every((id, i) => id === ids[i]);
        return {
          found: `${((100 * error) / noise).toFixed(0)}% of the noise of ${dtype}; ${same ? 'the' : 'OTHER'} ids`,
          right: error <= noise && same,
        };
      } finally {
        tf.dispose(images.map(({ pixelValues }) => pixelValues));
        model.dispose();
      }
    },
  }));
}

async function imagesOf(name: string, model: VisionLanguageModel): ReturnType<typeof prepared> {
  if (name === 'vispruner-tiny') {
    const [asked] = json<{ cases: { image: string }[] }>('shipped', 'reference.json').cases;
    return [...(await model.prepareImages([path.join(IMAGES, asked?.image as string)]))] as Awaited<ReturnType<typeof prepared>>;
  }
  const file = await readSafetensors(path.join(FIXTURES, name, 'reference.safetensors'));
  try {
    return await prepared(file, 1);
  } finally {
    await file.close();
  }
}

/** Questions with their recorded answers, and the time of one. */
export async function answers(model: VisionLanguageModel): Promise<Outcome> {
  const { cases } = json<{ cases: { image: string; question: string; text: string }[] }>('shipped', 'reference.json');
  let right = 0;
  let milliseconds = Number.POSITIVE_INFINITY;
  for (const { image, question, text } of cases) {
    const begun = performance.now();
    const answer = await model.ask(path.join(IMAGES, image), question, { maxNewTokens: 4 });
    milliseconds = Math.min(milliseconds, performance.now() - begun);
    if (answer.text === text) right++;
  }
  return { found: `${right} of ${cases.length} answers; ${milliseconds.toFixed(0)} ms the fastest`, right: right === cases.length };
}

function rms(some: Float32Array, others: Float32Array): number {
  return Math.sqrt(some.reduce((sum, value, i) => sum + (value - (others[i] as number)) ** 2, 0) / some.length);
}
