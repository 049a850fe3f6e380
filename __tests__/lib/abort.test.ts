import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadModel } from '../../lib/load';
import type { VisionLanguageModel } from '../../lib/model';
import type { PruneOptions } from '../../lib/prune/registry';
import { Aborted, watchedSignal } from '../support/aborts';

const SHIPPED = join(__dirname, '../../weights/vispruner-tiny');
const stars = readFileSync(join(__dirname, '../../examples/images/stars.png'));
const QUESTION = 'where is the yellow object?';

/** Files, sockets and the like that the process has open, where the system tells. */
const openFiles = (): number => (existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0);

let model: VisionLanguageModel;
let expected: string;

beforeAll(async () => {
  model = await loadModel(SHIPPED, { backend: 'wasm' });
  expected = (await model.ask(stars, QUESTION)).text;
});

afterAll(() => model.dispose());

/** Aborts what `run` does at every moment at which it looks at its signal, one after another, and checks that nothing is left. */
async function abortEverywhere(run: (signal: AbortSignal) => Promise<unknown>, stride = 1): Promise<number> {
  const whole = watchedSignal();
  const result = await run(whole.signal);
  if (result instanceof Object && 'dispose' in result) (result as { dispose(): void }).dispose();
  const { numTensors, numBytes } = tf.memory();
  const files = openFiles();
  for (let look = 1; look <= whole.looks; look += stride) {
    const { signal } = watchedSignal(look);
    await expect(run(signal)).rejects.toEqual(new Aborted(look));
    expect({ look, numTensors: tf.memory().numTensors, numBytes: tf.memory().numBytes }).toEqual({ look, numTensors, numBytes });
  }
  await new Promise((resolve) => setTimeout(resolve, 20)); // an abandoned read closes its file when it ends
  expect(openFiles()).toBeLessThanOrEqual(files);
  return whole.looks;
}

it('loading ends at any look at the signal, and frees tensors and files', async () => {
  const looks = await abortEverywhere((signal) => loadModel(SHIPPED, { signal }), 3);
  expect(looks).toBeGreaterThan(100); // at least once a tensor
  expect((await model.ask(stars, QUESTION)).text).toBe(expected);
});

it.each<PruneOptions>([
  { method: 'none' },
  { method: 'vispruner', tokens: 28 },
  { method: 'dedup', tokens: 14 },
  { method: 'fastervlm', tokens: 14 },
  { method: 'random', tokens: 14, seed: 1 },
  { method: 'visionzip', tokens: 28 },
  { method: 'prumerge-plus', tokens: 28 },
  { method: 'tome', tokens: 28 },
  { method: 'pool', tokens: 28 },
  { method: 'fastv', tokens: 28, layer: 2 },
])('a question with $method ends at any look at the signal, with its reason, and the next is answered', async (prune) => {
  const usual = (await model.ask(stars, QUESTION, { prune })).text;
  // reading and decoding the image, the encoder's blocks, the choice, the decoder's blocks for the prompt and for each token
  expect(await abortEverywhere((signal) => model.ask(stars, QUESTION, { prune, signal }))).toBeGreaterThan(20);
  expect((await model.ask(stars, QUESTION, { prune })).text).toBe(usual);
});

it('a stream, encoding and a pass over a prompt end at any look at the signal', async () => {
  await abortEverywhere(async (signal) => {
    for await (const _ of model.stream(stars, QUESTION, { signal }));
  });
  const prepared = await model.prepareImages([stars]);
  await abortEverywhere((signal) => model.encodeImages(prepared, { signal, prune: { method: 'vispruner', tokens: 28 } }));
  const inputIds = model.chatProcessor.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: QUESTION }] }], 1);
  await abortEverywhere(async (signal) => {
    const { logits } = await model.forward({ inputIds, images: prepared }, { signal });
    logits.dispose();
  });
  const words = model.chatProcessor.encode([{ role: 'user', content: QUESTION }], 0);
  const batch = [{ inputIds, images: prepared }, { inputIds: words }];
  await abortEverywhere((signal) => model.generateBatch(batch, { signal, maxNewTokens: 3 }), 2);
  for (const { pixelValues } of prepared) pixelValues.dispose();
  expect((await model.ask(stars, QUESTION)).text).toBe(expected);
});

it('a turn of a chat that is aborted at any look leaves the chat as it was', async () => {
  const chat = model.chat({ prune: { method: 'vispruner', tokens: 28 } });
  await chat.say(QUESTION, { images: stars });
  const second = 'what shape is the purple object?';
  const alone = model.chat({ prune: { method: 'vispruner', tokens: 28 } });
  await alone.say(QUESTION, { images: stars });
  const usual = (await alone.say(second)).text;
  alone.dispose();
  const whole = watchedSignal();
  const probe = model.chat({ prune: { method: 'vispruner', tokens: 28 } });
  await probe.say(QUESTION, { images: stars });
  await probe.say(second, { signal: whole.signal });
  probe.dispose();
  for (let look = 1; look <= whole.looks; look++) {
    await expect(chat.say(second, { signal: watchedSignal(look).signal })).rejects.toEqual(new Aborted(look));
    expect(chat.messages).toHaveLength(2);
  }
  expect((await chat.say(second)).text).toBe(usual);
  chat.dispose();
});

it('one signal serves a thousand calls, and keeps none of them', async () => {
  const warnings: Error[] = [];
  const note = (warning: Error) => warnings.push(warning);
  process.on('warning', note);
  const { signal } = new AbortController();
  let listeners = 0;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...args: Parameters<AbortSignal['addEventListener']>) => {
    listeners++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<AbortSignal['removeEventListener']>) => {
    listeners--;
    remove(...args);
  };
  try {
    for (let i = 0; i < 100; i++) await Promise.all(Array.from({ length: 10 }, () => model.ask([], QUESTION, { signal, maxNewTokens: 1 })));
    await model.ask(stars, QUESTION, { signal });
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(listeners).toBe(0);
    expect(warnings.map(({ name }) => name)).toEqual([]);
  } finally {
    process.removeListener('warning', note);
  }
});

it('a call that waits for another ends at once when it is aborted', async () => {
  const prepared = await model.prepareImages([stars, stars]);
  const running = model.encodeImages(prepared);
  const controller = new AbortController();
  const waiting = model.ask([], QUESTION, { signal: controller.signal });
  const ended: string[] = [];
  void running.then(() => ended.push('running'));
  const noted = waiting.catch((error: Error) => ended.push(error.message));
  setTimeout(() => controller.abort(new Error('no more')), 0);
  await Promise.all([running, noted]);
  expect(ended).toEqual(['no more', 'running']);
  for (const { pixelValues } of prepared) pixelValues.dispose();
  (await running).dispose();
});

it('a tap that throws ends the call with its error, and nothing is left', async () => {
  const prune = { method: 'vispruner', tokens: 28 } as const;
  const names: string[] = [];
  await model.ask(stars, QUESTION, { prune, tap: (name) => names.push(name) });
  const { numTensors, numBytes } = tf.memory();
  for (let i = 0; i < names.length; i += 5) {
    let seen = 0;
    const tap = () => {
      if (seen++ === i) throw new Error('the tap has enough');
    };
    await expect(model.ask(stars, QUESTION, { prune, tap })).rejects.toThrow('the tap has enough');
    expect({ tap: names[i], numTensors: tf.memory().numTensors, numBytes: tf.memory().numBytes }).toEqual({ tap: names[i], numTensors, numBytes });
  }
  expect((await model.ask(stars, QUESTION)).text).toBe(expected);
});
