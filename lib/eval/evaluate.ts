import { Pacer } from '../pacer';
import { createPruner, type PruneOptions } from '../prune/registry';
import type { Needs, Pruner } from '../prune/types';
import { answersOf, checkShared } from './answers';
import type { Condition } from './conditions';
import type { DataSet } from './data_set';
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
  let cold = true;
  for (const image of options.images) {
    yield await askImage(model, data, image, options, cold);
    cold = false;
  }
}

const NOTHING: PruneOptions = { method: 'none' };

async function askImage(model: EvaluatedModel, data: DataSet, image: number, options: EvaluateOptions, cold: boolean): Promise<ImageRecord> {
  const { conditions, timed = 0, signal } = options;
  const pacer = new Pacer(signal);
  const questions = data.questions(image);
  const { maxNewTokens } = data;
  const prompts = questions.map(({ text }) => model.encodePrompt(text, true));
  const shared = { ...sharePrompts(prompts, model.imageToken), questions: questions.map(({ text }) => text) };
  checkShared(shared, questions[0]?.text ?? '', model.imageToken);
  const said: Record<string, string>[] = questions.map(() => ({}));
  const entering: Record<string, number> = {};
  const time: Record<string, QuestionTime> = {};
  const note = (key: string, texts: readonly string[]): void => {
    for (const [i, text] of texts.entries()) (said[i] as Record<string, string>)[key] = text;
  };
  await pacer.pause();
  const prepared = await model.prepare(await data.image(image, signal), signal);
  const askAlone = (pruner: Pruner) =>
    model.tokens.generate({ inputIds: prompts[0] as Int32Array, images: [prepared] }, { prune: pruner, maxNewTokens, signal });
  try {
    if (cold && image < timed) await askAlone(createPruner(NOTHING)); // what a backend does once belongs to no condition
    const pruned = conditions.flatMap(({ key, prune }) => (prune ? [{ key, pruner: createPruner(prune(image)) }] : []));
    for (const group of encodedTogether(pruned, ({ pruner }) => pruner.needs(model.tokens.layers.encoder))) {
      const encoded = await model.tokens.encodeImages([prepared], { prune: group.map(({ pruner }) => pruner), signal });
      try {
        for (const { key, pruner } of group) {
          const answers = await answersOf(model, shared, encoded, { pruner, maxNewTokens, pacer, signal });
          note(key, answers.texts);
          entering[key] = round(mean(answers.entering.map(mean)));
          if (image < timed) time[key] = timeOf((await askAlone(pruner)).timing);
        }
      } finally {
        encoded.dispose();
      }
    }
  } finally {
    prepared.pixelValues.dispose();
  }
  const blind = conditions.filter(({ prune }) => !prune);
  if (blind.length > 0) {
    const ends = questions.map(({ text }) => model.encodePrompt(text, false));
    const pruner = createPruner(NOTHING);
    const { texts } = await answersOf(model, { start: new Int32Array(0), ends }, undefined, { pruner, maxNewTokens, pacer, signal });
    for (const { key } of blind) note(key, texts);
  }
  return {
    image,
    questions: questions.map((question, i) => ({ ...question, said: said[i] as Record<string, string> })),
    entering,
    ...(image < timed ? { time } : {}),
  };
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
