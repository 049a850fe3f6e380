import { readFileSync } from 'node:fs';
import { type Answer, type EncodedImages, type PruneOptions, type VisionLanguageModel, VisPrunerError } from '../lib/index';

/** What a day brings, one after another: how each question ended. */
export type Outcome = 'answered' | 'refused' | 'aborted' | 'left early';

export interface Mix {
  /** Asks question number `i`. */
  ask(i: number): Promise<Outcome>;
  dispose(): void;
}

/** Methods and budgets of the questions, in turn. */
const PRUNES: readonly PruneOptions[] = [
  { method: 'vispruner', tokens: 28 },
  { method: 'none' },
  { method: 'fastv', tokens: 28, layer: 2 },
  { method: 'random', tokens: 14, seed: 1 },
  { method: 'fastervlm', keepRatio: 0.22 },
  { method: 'dedup', tokens: 56 },
];

const SECOND = 'what shape is the purple object?';

type Ask = (prune: PruneOptions, signal?: AbortSignal) => Promise<Outcome>;

/** Questions in every form that the model has, among them wrong ones, aborted ones and some that nobody waits for. `longest` is how long one takes, ms. */
export async function mix(model: VisionLanguageModel, image: string, question: string, longest: number): Promise<Mix> {
  const bytes = readFileSync(image);
  const prepared = await model.prepareImages([image]);
  const encoded: EncodedImages = await model.encodeImages(prepared, { prune: PRUNES });
  const inputIds = model.chatProcessor.encode([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text: question }] }], 1);
  const words = model.chatProcessor.encode([{ role: 'user', content: question }], 0);
  /** One for the whole day, as a server has one for its end. */
  const day = new AbortController();

  const answered: readonly Ask[] = [
    async (prune, signal = day.signal) => answer(await model.ask(image, question, { prune, signal })),
    async (prune, signal) => answer(await model.ask(bytes, question, { prune, signal, temperature: 0.7, seed: 3 })),
    async (prune, signal) => answer(await model.ask(encoded, question, { prune, signal })),
    async (prune, signal) => {
      await model.generateBatch([{ inputIds, images: prepared }, { inputIds: words }, { inputIds, images: encoded }], { prune, signal });
      return 'answered';
    },
    async (prune, signal) => {
      const chat = model.chat({ prune });
      try {
        await chat.say(question, { images: image, signal });
        await chat.say(SECOND, { signal });
      } finally {
        chat.dispose();
      }
      return 'answered';
    },
    async (prune, signal) => {
      const fresh = await model.encodeImages(prepared, { prune, signal });
      try {
        return answer(await model.ask(fresh, SECOND, { prune, signal, logprobs: 2 }));
      } finally {
        fresh.dispose();
      }
    },
    async (prune, signal) => answer(await model.ask(image, question, { prune, signal, choices: ['top-left', 'top-right', 'bottom-left'] })),
    async (prune, signal) => {
      await model.score({ inputIds, images: prepared }, [words.slice(-3), words.slice(-2)], { prune, signal });
      return 'answered';
    },
    async (prune, signal) => {
      const { logits } = await model.forward({ inputIds, images: encoded }, { prune, signal });
      logits.dispose();
      return 'answered';
    },
  ];
  const left: readonly Ask[] = [
    async (prune) => {
      for await (const _ of model.stream(image, question, { prune })) break;
      return 'left early';
    },
    async (prune) => {
      for await (const _ of model.tokens([{ inputIds, images: prepared }, { inputIds: words }], { prune })) break;
      return 'left early';
    },
  ];
  const wrong: readonly (() => Promise<unknown>)[] = [
    () => model.ask(image, question, { temperature: -1 }),
    () => model.ask('no-such-image.png', question),
    () => model.ask(image, question, { prune: { method: 'vispruner', tokens: 100000 } }),
    () => model.ask([image, image], question, { prune: { method: 'fastv', tokens: 8, layer: 1000 } }),
    () => model.ask(bytes.subarray(0, bytes.length >> 1), question), // cut off
    () => model.ask(damaged(bytes), question),
    () => model.ask([image, damaged(bytes)], question), // the first is decoded by then
    () => model.ask(image, 'two <image> tokens <image> for one image'),
    () => model.generate({ inputIds: [...inputIds, -1], images: prepared }),
  ];
  const of = <T>(list: readonly T[], i: number): T => list[i % list.length] as T;

  return {
    async ask(i) {
      const prune = of(PRUNES, i);
      const turn = Math.floor(i / 5);
      if (i % 5 === 1) return refused(of(wrong, turn));
      if (i % 5 === 3) return aborted((signal) => of(answered, turn)(prune, signal), (longest * ((i * 37) % 101)) / 101);
      if (i % 10 === 7) return of(left, turn >> 1)(prune);
      return of(answered, i)(prune);
    },
    dispose() {
      encoded.dispose();
      for (const { pixelValues } of prepared) pixelValues.dispose();
    },
  };
}

function answer({ text }: Answer): Outcome {
  if (text === '') throw new Error('An empty answer.');
  return 'answered';
}

/** The file with its middle overwritten. */
function damaged(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes).fill(0, bytes.length >> 1, (bytes.length >> 1) + 64);
}

async function refused(run: () => Promise<unknown>): Promise<Outcome> {
  try {
    await run();
  } catch (error) {
    if (error instanceof VisPrunerError) return 'refused';
    throw error;
  }
  throw new Error('A wrong request was answered.');
}

async function aborted(run: (signal: AbortSignal) => Promise<Outcome>, delay: number): Promise<Outcome> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), delay);
  try {
    return await run(controller.signal); // faster than the abort
  } catch (error) {
    if (controller.signal.aborted) return 'aborted';
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
