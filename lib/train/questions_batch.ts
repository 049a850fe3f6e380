import type { Random } from '../random';
import type { SceneLayout } from '../scenes/generate';
import { makeQuestions, type Question, type QuestionType } from '../scenes/questions';
import { EOS, encodeQuestion, PAD, PROMPT_START, tokenId } from '../scenes/tokenizer';

/*
 * Many questions share one pass over an image: each stands in a slot of fixed length after the visual tokens, sees those and itself only, and
 * counts its positions from where the visual tokens end. To the model it is exactly the sequence with one question.
 */
const LONG = 13; // a relation and "ASSISTANT:"
const SHORT = 8; // any other question
/** Types that a slot asks for, the first that the scene can answer; relations are the longest and come twice, counting is the hardest and comes three times. */
const LONG_SLOTS: readonly QuestionType[] = ['relation', 'relation'];
const SHORT_SLOTS: readonly QuestionType[] = ['exists', 'colour', 'shape', 'count', 'count', 'count', 'where', 'letter'];
const ALWAYS_POSSIBLE: readonly QuestionType[] = ['exists', 'count'];
/** Enough rounds of all types that two of each are there. */
const DRAWN = 20;
/** The first and the last slot, a long and a short one, hold the answer too and learn to end after it. */
const END_WEIGHT = 0.1;

export const PREFIX_LENGTH: number = PROMPT_START.length - 1; // <s> USER:
export const QUESTIONS_PER_IMAGE: number = LONG_SLOTS.length + SHORT_SLOTS.length;

interface Slot {
  readonly start: number;
  readonly length: number;
  /** Whether it holds the answer and learns to end after it. */
  readonly ends: boolean;
}

export const SLOTS: readonly Slot[] = [...LONG_SLOTS.map(() => LONG), ...SHORT_SLOTS.map(() => SHORT)]
  .map((length, i, all) => (i === 0 || i === all.length - 1 ? { length: length + 1, ends: true } : { length, ends: false }))
  .map((slot, i, all) => ({ ...slot, start: all.slice(0, i).reduce((sum, { length }) => sum + length, 0) }));
/** Tokens after the visual ones. */
export const QUESTION_LENGTH: number = SLOTS.reduce((sum, { length }) => sum + length, 0);
/** Rows per image whose next token is learned: one a question, and the ends. */
export const PREDICTIONS: number = QUESTIONS_PER_IMAGE + SLOTS.filter(({ ends }) => ends).length;

export interface QuestionBatch {
  readonly images: number;
  /** [images * (PREFIX_LENGTH + QUESTION_LENGTH)]: the text around the visual tokens. */
  readonly ids: Int32Array;
  /** Row after the visual tokens whose next token is asked for, [images * PREDICTIONS]. */
  readonly rows: Int32Array;
  readonly targets: Int32Array;
  readonly weights: Float32Array;
  /** The question's type, or 'end'. */
  readonly types: readonly (QuestionType | 'end')[];
}

export function questionBatch(scenes: readonly SceneLayout[], random: Random): QuestionBatch {
  const images = scenes.length;
  const perImage = PREFIX_LENGTH + QUESTION_LENGTH;
  const ids = new Int32Array(images * perImage).fill(tokenId(PAD));
  const rows = new Int32Array(images * PREDICTIONS);
  const targets = new Int32Array(images * PREDICTIONS);
  const weights = new Float32Array(images * PREDICTIONS);
  const types: (QuestionType | 'end')[] = [];
  let prediction = 0;
  const predict = (row: number, target: number, type: QuestionType | 'end') => {
    rows[prediction] = row;
    targets[prediction] = target;
    weights[prediction++] = type === 'end' ? END_WEIGHT : 1;
    types.push(type);
  };
  for (const [image, scene] of scenes.entries()) {
    const text = image * perImage;
    ids.set(PROMPT_START.slice(0, PREFIX_LENGTH), text);
    for (const [i, question] of chooseQuestions(scene, random).entries()) {
      const { start, ends } = SLOTS[i] as Slot;
      const prompt = encodeQuestion(question.text);
      const answer = tokenId(question.answer);
      ids.set(prompt, text + PREFIX_LENGTH + start);
      predict(start + prompt.length - 1, answer, question.type);
      if (!ends) continue;
      ids[text + PREFIX_LENGTH + start + prompt.length] = answer;
      predict(start + prompt.length, tokenId(EOS), 'end');
    }
  }
  return { images, ids, rows, targets, weights, types };
}

function chooseQuestions(scene: SceneLayout, random: Random): Question[] {
  const drawn = new Map<QuestionType, Question[]>();
  for (const question of makeQuestions(scene, random, DRAWN)) drawn.set(question.type, [...(drawn.get(question.type) ?? []), question]);
  const take = (type: QuestionType): Question => {
    const found = drawn.get(type)?.pop();
    if (found) return found;
    for (;;) {
      const other = drawn.get(random.pick(ALWAYS_POSSIBLE))?.pop();
      if (other) return other;
      for (const question of makeQuestions(scene, random, DRAWN)) drawn.get(question.type)?.push(question);
    }
  };
  return [...LONG_SLOTS.map(take), ...random.shuffle([...SHORT_SLOTS]).map(take)];
}

/** What each row of [prefix, visual tokens, slots] may see: 0, or a large negative number, [S, S] row by row. */
export function packMask(visual: number): Float32Array {
  const shared = PREFIX_LENGTH + visual;
  const length = shared + QUESTION_LENGTH;
  const mask = new Float32Array(length * length).fill(-1e9);
  for (let row = 0; row < length; row++) {
    if (row < shared) mask.fill(0, row * length, row * length + row + 1);
    else {
      const slot = SLOTS.find(({ start, length: n }) => row - shared < start + n) as Slot;
      mask.fill(0, row * length, row * length + shared);
      mask.fill(0, row * length + shared + slot.start, row * length + row + 1);
    }
  }
  return mask;
}

/** Position ids of one image's rows. */
export function packPositions(visual: number): Int32Array {
  const shared = PREFIX_LENGTH + visual;
  return Int32Array.from({ length: shared + QUESTION_LENGTH }, (_, row) => {
    if (row < shared) return row;
    const slot = SLOTS.find(({ start, length }) => row - shared < start + length) as Slot;
    return row - slot.start;
  });
}
