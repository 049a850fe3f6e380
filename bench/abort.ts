/**
 * Time from an abort to the end of the call, in each phase of the work, on wasm; or of the loading of a large checkpoint on any backend.
 *
 *   npm run bench:abort                                the shipped model, and seeded layers as large as CLIP ViT-L/14-336's and a 1.1-billion-parameter Llama's
 *   npm run bench:abort -- --aborts 40 --model DIR
 *   npm run bench:abort -- --load runs/7b-4 --backend tensorflow [--dtype auto]
 *
 * An abort is due at a moment spread over the phase. JavaScript that computes lets no timer run, so the time counts from when it was due, not from when
 * the timer ran: that is what Ctrl-C feels like. `processor` leaves out what other programs did meanwhile.
 */
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs';
import sharp from 'sharp';
import {
  type BackendName,
  buildModel,
  loadModel,
  type PreparedImage,
  type TokenModel,
  type VisionLanguageModel,
  visPruner,
  type WeightDtype,
} from '../lib/index';
import { machine } from './machine';
import { median, table } from './statistics';

const LIMIT = 250;

type Work = (signal: AbortSignal) => Promise<unknown>;

const IMAGE_TOKEN = 3;
/** Widths of LLaVA-1.5's encoder and of TinyLlama's decoder, with fewer blocks: a pause knows nothing of how many there are. */
const LARGE = {
  model_type: 'llava',
  image_token_index: IMAGE_TOKEN,
  vision_config: { hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 4, num_attention_heads: 16, image_size: 336, patch_size: 14 },
  text_config: {
    model_type: 'llama',
    vocab_size: 32000,
    hidden_size: 2048,
    intermediate_size: 5632,
    num_hidden_layers: 2,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    max_position_embeddings: 2048,
  },
};

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      model: { type: 'string', default: 'weights/vispruner-tiny' },
      aborts: { type: 'string', default: '30' },
      load: { type: 'string' },
      backend: { type: 'string', default: 'wasm' },
      dtype: { type: 'string', default: 'auto' },
    },
  });
  const aborts = Number(values.aborts);
  if (values.load) {
    const backend = values.backend as BackendName;
    const dtype = values.dtype as WeightDtype;
    const directory = values.load;
    const work = async (signal: AbortSignal) => (await loadModel(directory, { backend, dtype, signal })).dispose();
    const measuredLoad = await measured(new Map<string, Work>([['load', work]]), aborts);
    console.log(`${machine(backend)}\n\n${directory}, dtype ${dtype}\n\n${measuredLoad}`);
    return;
  }
  const shipped = await loadModel(values.model, { backend: 'wasm' });
  console.log(`${machine(shipped.backend)}\n`);
  console.log(`${values.model}\n\n${await measured(await smallPhases(shipped, values.model), aborts)}\n`);
  shipped.dispose();
  const building = new Map<string, Work>([['build (load, of random numbers)', async (signal) => (await buildModel(LARGE, { signal })).dispose()]]);
  const built = await measured(building, Math.ceil(aborts / 3)); // before there is another: wasm holds one
  const large = await buildModel(LARGE, { backend: 'wasm' });
  const phases = await largePhases(large);
  console.log(
    `Seeded, CLIP ViT-L/14-336 wide (4 blocks of 577 x 1024) and TinyLlama wide (2 blocks of 640 x 2048, 32,000 words)\n\n${built}\n\n${await measured(phases, aborts)}`,
  );
  large.dispose();
}

async function smallPhases(model: VisionLanguageModel, directory: string): Promise<Map<string, Work>> {
  const photo = await sharp({
    create: { width: 5472, height: 3648, channels: 3, background: '#557', noise: { type: 'gaussian', mean: 120, sigma: 40 } },
  })
    .jpeg()
    .toBuffer();
  const images = await model.prepareImages(['examples/images/stars.png']);
  const question = 'where is the yellow object?';
  return new Map<string, Work>([
    ['load', async (signal) => (await loadModel(directory, { signal })).dispose()],
    ['decode and prepare 20 megapixels', async (signal) => freed(await model.prepareImages([photo], { signal }))],
    ['encode', async (signal) => (await model.encodeImages(images, { signal })).dispose()],
    ['a question', (signal) => model.ask(images, question, { signal })],
    ['a question, 28 tokens kept', (signal) => model.ask(images, question, { signal, prune: { method: 'vispruner', tokens: 28 } })],
  ]);
}

async function largePhases(model: TokenModel): Promise<Map<string, Work>> {
  const image: PreparedImage = {
    pixelValues: tf.randomNormal([1, 336, 336, 3], 0, 1, 'float32', 1),
    originalSize: { width: 336, height: 336 },
    grid: { rows: 24, columns: 24 },
  };
  const features = tf.randomNormal<tf.Rank.R2>([2880, 1024], 0, 1, 'float32', 2);
  const attention = tf.softmax(tf.randomNormal<tf.Rank.R2>([16, 2880], 0, 1, 'float32', 3));
  const text = Array.from({ length: 63 }, (_, i) => 5 + i);
  const prune = { method: 'vispruner', tokens: 64 } as const;
  const images = await model.encodeImages([image], { prune });
  const asked = { inputIds: [1, IMAGE_TOKEN, ...text], images };
  return new Map<string, Work>([
    ['encode', async (signal) => (await model.encodeImages([image], { prune, signal })).dispose()],
    ['choose 320 of 2,880 patches', (signal) => visPruner(features, attention, { tokens: 320 }, () => pause(signal))],
    ['prefill, 640 tokens', (signal) => model.generate(asked, { signal, maxNewTokens: 1 })],
    ['choose 64, prefill 128 tokens', (signal) => model.generate(asked, { signal, prune, maxNewTokens: 1 })],
    ['logits of 640 tokens', async (signal) => (await model.forward(asked, { signal })).logits.dispose()],
    ['decode 30 tokens', (signal) => model.generate({ inputIds: text.slice(0, 4) }, { signal, maxNewTokens: 30 })],
  ]);
}

async function pause(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  signal.throwIfAborted();
}

function freed(images: readonly PreparedImage[]): void {
  for (const { pixelValues } of images) pixelValues.dispose();
}

async function measured(phases: ReadonlyMap<string, Work>, aborts: number): Promise<string> {
  const rows: string[][] = [];
  for (const [name, work] of phases) {
    const never = new AbortController();
    await work(never.signal); // the first is slower
    const begun = performance.now();
    await work(never.signal);
    const whole = performance.now() - begun;
    const latencies: Latency[] = [];
    for (let i = 0; i < aborts; i++) {
      const latency = await latencyOf(work, (whole * (i + 0.5)) / aborts);
      if (latency !== undefined) latencies.push(latency);
    }
    const passed = latencies.map((latency) => latency.passed).sort((a, b) => a - b);
    const computed = latencies.map((latency) => latency.processor).sort((a, b) => a - b);
    rows.push([
      name,
      whole.toFixed(0),
      String(latencies.length),
      ...quantiles(passed),
      ...quantiles(computed),
      String(computed.filter((ms) => ms > LIMIT).length),
    ]);
  }
  const columns = ['p50', 'p95', 'max'];
  const header = [
    'phase',
    'whole, ms',
    'aborts',
    ...columns.map((one) => `${one}, ms`),
    ...columns.map((one) => `processor ${one}`),
    `over ${LIMIT}`,
  ];
  return table(header, rows);
}

function quantiles(sorted: readonly number[]): string[] {
  if (sorted.length === 0) return ['-', '-', '-'];
  return [median(sorted), sorted[Math.min(sorted.length - 1, Math.floor(0.95 * sorted.length))] as number, sorted.at(-1) as number].map((ms) =>
    ms.toFixed(0),
  );
}

/** Milliseconds from the moment at which an abort was due to the rejection. */
interface Latency {
  readonly passed: number;
  /** What this program itself computed, from the last turn of the event loop before the abort was due: at least as much as after it. */
  readonly processor: number;
}

const processorNow = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** undefined when the work was done before the abort. */
async function latencyOf(work: Work, delay: number): Promise<Latency | undefined> {
  const controller = new AbortController();
  const due = performance.now() + delay;
  let turn = processorNow();
  const turns = setInterval(() => {
    if (performance.now() < due) turn = processorNow();
  }, 1);
  const timer = setTimeout(() => controller.abort(), delay);
  try {
    await work(controller.signal);
    return undefined;
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    return { passed: performance.now() - due, processor: processorNow() - turn };
  } finally {
    clearTimeout(timer);
    clearInterval(turns);
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
