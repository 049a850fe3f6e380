import { PromptError } from '../../layers/errors';
import { disposeEncoded } from '../encoded';
import type { PreparedImage, RgbImage } from '../image/types';
import type { Llava } from '../llava';
import type { VisionLanguageModel } from '../model';
import { Pacer } from '../pacer';
import { createPruner, type PruneOptions } from '../prune/registry';
import { Random } from '../random';
import { generateScene, HELD_OUT_SEEDS, makeQuestions, QUESTION_TYPES, type Question, type Scene } from '../scenes';
import type { Condition } from './conditions';
import { firstTokens, sharePrompts } from './first_tokens';

/** What an evaluation needs of a model with its tokenizer and image processor. */
export interface EvaluatedModel {
  readonly llava: Llava;
  readonly imageToken: number;
  prepare(image: RgbImage): Promise<PreparedImage>;
  /** Ids of the whole prompt up to the cue for the answer. */
  encodePrompt(question: string, withImage: boolean): Int32Array;
  decode(id: number): string;
}

/** A loaded model as an evaluation asks it: with its own image processor, chat template and tokenizer. @throws PromptError `NO_VISION` for a language model alone */
export function evaluatedModel(model: VisionLanguageModel): EvaluatedModel {
  const { chatProcessor: chat } = model;
  const { imageToken } = chat;
  if (!imageToken) throw new PromptError('NO_VISION', 'This model has no vision tower: it can not be asked about scenes.');
  return {
    llava: model.layers,
    imageToken: imageToken.id,
    async prepare(image) {
      const [prepared] = await model.prepareImages([image]);
      return prepared as PreparedImage;
    },
    encodePrompt(question, withImage) {
      const text = { type: 'text' as const, text: question };
      return chat.encode([{ role: 'user', content: withImage ? [{ type: 'image' }, text] : [text] }], withImage ? 1 : 0);
    },
    decode: (id) => chat.decode([id]),
  };
}

/** One answered question. */
export interface AnsweredQuestion extends Question {
  /** What the model said, by the key of the condition. */
  readonly said: Readonly<Record<string, string>>;
}

/** Everything that was asked of one scene: a line of a results file. */
export interface SceneRecord {
  readonly seed: number;
  readonly questions: readonly AnsweredQuestion[];
}

export interface EvaluateOptions {
  readonly conditions: readonly Condition[];
  /** At least so many questions are asked under each condition; the last scene is finished. */
  readonly questions: number;
  /** Records of an earlier run, in order: they count, and evaluation goes on behind them. */
  readonly done?: readonly SceneRecord[];
  /** Which held-out scenes: the first is number 0. */
  readonly firstScene?: number;
  readonly signal?: AbortSignal;
}

/** At most one question of each type that the scene can answer; which ones follows from the scene's seed. */
export function sceneQuestions(scene: Scene): Question[] {
  const asked = new Map<string, Question>();
  for (const question of makeQuestions(scene, new Random(scene.seed, 1), QUESTION_TYPES.length)) {
    if (!asked.has(question.type)) asked.set(question.type, question);
  }
  return [...asked.values()];
}

/**
 * Asks a model about scenes that no training ever saw, each question under each condition, and yields one record a scene.
 * An answer is the first token of greedy generation. The questions of a scene share its encoding.
 */
export async function* evaluate(model: EvaluatedModel, options: EvaluateOptions): AsyncGenerator<SceneRecord> {
  const { conditions, done = [], firstScene = 0 } = options;
  const pacer = new Pacer(options.signal);
  let asked = done.reduce((sum, record) => sum + record.questions.length, 0);
  for (let number = firstScene + done.length; asked < options.questions; number++) {
    const scene = generateScene(HELD_OUT_SEEDS.first + number);
    const record = await askScene(model, scene, number, conditions, pacer);
    asked += record.questions.length;
    yield record;
  }
}

async function askScene(model: EvaluatedModel, scene: Scene, number: number, conditions: readonly Condition[], pacer: Pacer): Promise<SceneRecord> {
  const questions = sceneQuestions(scene);
  const said: Record<string, string>[] = questions.map(() => ({}));
  const prompts = questions.map(({ text }) => model.encodePrompt(text, true));
  const shared = sharePrompts(prompts, model.imageToken);
  if (shared.start.length === 0)
    throw new PromptError('IMAGE_TOKEN_COUNT', `The prompt of "${questions[0]?.text}" has no image token (${model.imageToken}).`);
  const blindEnds = questions.map(({ text }) => model.encodePrompt(text, false));
  const needs = conditions.map(({ prune }) => createPruner(prune?.(number) ?? NOTHING).needs(model.llava.encoder));
  const prepared = await model.prepare({ width: scene.size, height: scene.size, data: scene.pixels });
  const encoded = await model.llava.encode([prepared], needs, { pacer }).finally(() => prepared.pixelValues.dispose());
  try {
    for (const { key, prune } of conditions) {
      const pruner = createPruner(prune?.(number) ?? NOTHING);
      const ids = prune
        ? await firstTokens(model.llava, shared, encoded, { pruner, pacer })
        : await firstTokens(model.llava, { start: new Int32Array(0), ends: blindEnds }, [], { pruner, pacer });
      for (const [i, id] of ids.entries()) (said[i] as Record<string, string>)[key] = model.decode(id);
    }
  } finally {
    disposeEncoded(encoded);
  }
  return { seed: scene.seed, questions: questions.map((question, i) => ({ ...question, said: said[i] as Record<string, string> })) };
}

const NOTHING: PruneOptions = { method: 'none' };
