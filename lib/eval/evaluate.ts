import type { PreparedImage } from '../image/types';
import { Pacer } from '../pacer';
import { createPruner, type PruneOptions } from '../prune/registry';
import type { Needs, Pruner } from '../prune/types';
import { type Answers, answersOf, checkShared } from './answers';
import type { Condition } from './conditions';
import type { DataSet, EvalQuestion } from './data_set';
import type { EvaluatedModel } from './evaluated_model';
import { sharePrompts } from './first_tokens';
import type { ImageRecord, QuestionTime } from './records';

export interface EvaluateOptions {
  readonly conditions: readonly Condition[];
  /** Numbers of the images to ask about, in this order. */
  readonly images: Iterable<number>;
  /** Of how many of the first images of the data set a question is asked alone too, for its time; default 0. */
  readonly timed?: number;
  readonly signal?: AbortSignal;
}

/**
 * Asks a model all questions of a data set about some of its images, each under each condition, greedily, and yields one record an image.
 * The questions of an image share its encoding.
 *
 * @throws ImageError, PromptError, PruneError; the signal's reason
 */
export async function* evaluate(model: EvaluatedModel, data: DataSet, options: EvaluateOptions): AsyncGenerator<ImageRecord> {
  for (const image of options.images) yield await askImage(model, data, image, options);
}

const NOTHING: PruneOptions = { method: 'none' };

/** A condition of one image. */
interface Asked {
  readonly key: string;
  readonly pruner: Pruner;
}

async function askImage(model: EvaluatedModel, data: DataSet, image: number, options: EvaluateOptions): Promise<ImageRecord> {
  const { conditions, timed = 0, signal } = options;
  const pacer = new Pacer(signal);
  const questions = data.questions(image);
  const said: Record<string, string>[] = questions.map(() => ({}));
  const entering: Record<string, number> = {};
  const note = (key: string, texts: readonly string[]): void => {
    for (const [i, text] of texts.entries()) (said[i] as Record<string, string>)[key] = text;
  };
  const context = { model, questions, maxNewTokens: data.maxNewTokens, pacer, signal };
  const asked = conditions.flatMap(({ key, prune }): Asked[] => (prune ? [{ key, pruner: createPruner(prune(image)) }] : []));
  await pacer.pause();
  const prepared = await model.prepare(await data.image(image, signal), signal);
  let time: Record<string, QuestionTime> | undefined;
  try {
    for await (const { key, answers } of askAll(context, prepared, asked)) {
      note(key, answers.texts);
      entering[key] = round(mean(answers.entering.map(mean)));
    }
    if (image < timed) time = await timeAll(context, prepared, turned(asked, image));
  } finally {
    prepared.pixelValues.dispose();
  }
  const blind = conditions.filter(({ prune }) => !prune);
  if (blind.length > 0) {
    const ends = questions.map(({ text }) => model.encodePrompt(text, false));
    const { texts } = await answersOf(model, { start: new Int32Array(0), ends }, undefined, { ...context, pruner: createPruner(NOTHING) });
    for (const { key } of blind) note(key, texts);
  }
  const answered = questions.map((question, i) => ({ ...question, said: said[i] as Record<string, string> }));
  return { image, questions: answered, entering, ...(time ? { time } : {}) };
}

interface AskContext {
  readonly model: EvaluatedModel;
  readonly questions: readonly EvalQuestion[];
  readonly maxNewTokens: number;
  readonly pacer: Pacer;
  readonly signal?: AbortSignal;
}

async function* askAll(context: AskContext, prepared: PreparedImage, asked: readonly Asked[]): AsyncGenerator<{ key: string; answers: Answers }> {
  const { model, questions, signal } = context;
  const texts = questions.map(({ text }) => text);
  const prompts = { ...sharePrompts(promptsOf(context), model.imageToken), questions: texts };
  checkShared(prompts, texts[0] ?? '', model.imageToken);
  for (const group of encodedTogether(asked, ({ pruner }) => pruner.needs(model.tokens.layers.encoder))) {
    const encoded = await model.tokens.encodeImages([prepared], { prune: group.map(({ pruner }) => pruner), signal });
    try {
      for (const { key, pruner } of group) yield { key, answers: await answersOf(model, prompts, encoded, { ...context, pruner }) };
    } finally {
      encoded.dispose();
    }
  }
}

/** The first question alone under each condition: one after another, so that none meets what the shared answers of its own left behind. */
async function timeAll(context: AskContext, prepared: PreparedImage, asked: readonly Asked[]): Promise<Record<string, QuestionTime>> {
  const { model, questions, maxNewTokens, signal } = context;
  const request = { inputIds: promptsOf(context)[0] as Int32Array, images: [prepared], question: questions[0]?.text };
  const ask = (pruner: Pruner) => model.tokens.generate(request, { prune: pruner, maxNewTokens, signal });
  await ask(createPruner(NOTHING)); // warms up
  const time: Record<string, QuestionTime> = {};
  for (const { key, pruner } of asked) time[key] = timeOf((await ask(pruner)).timing);
  return time;
}

function promptsOf({ model, questions }: AskContext): Int32Array[] {
  return questions.map(({ text }) => model.encodePrompt(text, true));
}

/** Each image begins with another condition. */
function turned<T>(all: readonly T[], by: number): T[] {
  const start = all.length === 0 ? 0 : by % all.length;
  return [...all.slice(start), ...all.slice(0, start)];
}

/** In as few groups as may be encoded at once: what merges tokens inside the encoder has an encoding of its own. */
function encodedTogether<T>(all: readonly T[], needsOf: (one: T) => Needs): T[][] {
  const groups = new Map<string | undefined, T[]>();
  for (const one of all) {
    const key = needsOf(one).encoder?.key;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()];
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Kept short in files: hundredths of a token, of a millisecond. */
function round(value: number): number {
  return Math.round(100 * value) / 100;
}

function timeOf({ encode, select, prefill, decode, total }: QuestionTime): QuestionTime {
  return { encode: round(encode), select: round(select), prefill: round(prefill), decode: round(decode), total: round(total) };
}
