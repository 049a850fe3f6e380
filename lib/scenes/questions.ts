import type { Random } from '../random';
import { COLOURS, type Colour, KINDS, type Kind, MAX_OBJECTS, SCENE_SIZE } from './constants';
import type { SceneLayout, SceneObject } from './generate';

export const QUESTION_TYPES = ['exists', 'colour', 'shape', 'count', 'relation', 'where', 'letter'] as const;
export type QuestionType = (typeof QUESTION_TYPES)[number];

export interface Question {
  readonly type: QuestionType;
  readonly text: string;
  /** One word, one token. */
  readonly answer: string;
}

/** Two centres are compared along an axis only when they are this far apart on it, in pixels. */
const RELATION_GAP = 12;
/** A centre is in a quadrant only when it is this far from both axes of the image, in pixels. */
const QUADRANT_MARGIN = 6;
const SINGLE_ATTRIBUTE = 0.4;
const NEAR_MISS = 0.6;

/** What a question may name: a kind, a colour, or both. */
interface Description {
  readonly kind?: Kind;
  readonly colour?: Colour;
}

function matches(object: SceneObject, description: Description): boolean {
  return (
    (description.kind === undefined || object.kind === description.kind) && (description.colour === undefined || object.colour === description.colour)
  );
}

function countMatches(scene: SceneLayout, description: Description): number {
  return scene.objects.filter((object) => matches(object, description)).length;
}

function phrase({ kind, colour }: Description): string {
  return `${colour === undefined ? '' : `${colour} `}${kind ?? 'object'}`;
}

/** The plural of a phrase that ends in a noun of the scenes. */
export function plural(words: string): string {
  return `${words}${words.endsWith('s') ? 'es' : 's'}`;
}

function withArticle(words: string): string {
  return `${/^[aeiou]/.test(words) ? 'an' : 'a'} ${words}`;
}

/** The shortest words that fit this object only: its kind, else its colour, else both. */
function reference(scene: SceneLayout, object: SceneObject): string {
  if (countMatches(scene, { kind: object.kind }) === 1) return phrase({ kind: object.kind });
  if (countMatches(scene, { colour: object.colour }) === 1) return phrase({ colour: object.colour });
  return phrase(object);
}

function exists(scene: SceneLayout, random: Random): Question {
  const yes = random.chance(0.5);
  const single = random.chance(SINGLE_ATTRIBUTE);
  let description: Description;
  if (yes) {
    const { kind, colour } = random.pick(scene.objects);
    description = { kind, colour };
    if (single) description = random.chance(0.5) ? { kind } : { colour };
  } else if (single) {
    // Fewer than 8 kinds and 8 colours are ever present, so an absent one is always found.
    const byKind = random.chance(0.5);
    do description = byKind ? { kind: random.pick(KINDS) } : { colour: random.pick(COLOURS) };
    while (countMatches(scene, description) > 0);
  } else {
    const near = random.chance(NEAR_MISS);
    do {
      const other = random.pick(scene.objects);
      const keepKind = random.chance(0.5);
      description = {
        kind: near && keepKind ? other.kind : random.pick(KINDS),
        colour: near && !keepKind ? other.colour : random.pick(COLOURS),
      };
    } while (countMatches(scene, description) > 0 || (!near && countShared(scene, description) > 0));
  }
  return { type: 'exists', text: `is there ${withArticle(phrase(description))}?`, answer: yes ? 'yes' : 'no' };
}

function countShared(scene: SceneLayout, { kind, colour }: Description): number {
  return scene.objects.filter((object) => object.kind === kind || object.colour === colour).length;
}

function colourOf(scene: SceneLayout, random: Random): Question | undefined {
  const named = scene.objects.filter(({ kind }) => countMatches(scene, { kind }) === 1);
  if (named.length === 0) return undefined;
  const { kind, colour } = random.pick(named);
  return { type: 'colour', text: `what color is the ${kind}?`, answer: colour };
}

function shapeOf(scene: SceneLayout, random: Random): Question | undefined {
  // Letters are in every second scene, more often than any shape: half of them are left out, so that 'letter' is no better a guess.
  const named = scene.objects.filter(({ kind, colour }) => countMatches(scene, { colour }) === 1 && (kind !== 'letter' || random.chance(0.5)));
  if (named.length === 0) return undefined;
  const { kind, colour } = random.pick(named);
  return { type: 'shape', text: `what shape is the ${colour} object?`, answer: kind };
}

function countOf(scene: SceneLayout, random: Random): Question {
  if (random.chance(0.5)) return { type: 'count', text: 'how many objects are there?', answer: String(scene.objects.length) };
  const all: Description[] = [...KINDS.map((kind) => ({ kind })), ...COLOURS.map((colour) => ({ colour }))];
  const byValue = new Map<number, Description[]>();
  for (const description of all) {
    if (description.kind === 'letter') continue; // at most one: the letter's own question asks for it
    const value = countMatches(scene, description);
    byValue.set(value, [...(byValue.get(value) ?? []), description]);
  }
  // Drawn by value first: most kinds and colours are absent, and 'zero' would be a good guess.
  const value = random.pick([...byValue.keys()]);
  const description = random.pick(byValue.get(value) as Description[]);
  return { type: 'count', text: `how many ${plural(phrase(description))} are there?`, answer: String(value) };
}

function relation(scene: SceneLayout, random: Random): Question | undefined {
  const horizontal: [SceneObject, SceneObject][] = [];
  const vertical: [SceneObject, SceneObject][] = [];
  for (const a of scene.objects) {
    for (const b of scene.objects) {
      if (b.cx - a.cx >= RELATION_GAP) horizontal.push([a, b]);
      if (b.cy - a.cy >= RELATION_GAP) vertical.push([a, b]);
    }
  }
  if (horizontal.length + vertical.length === 0) return undefined;
  const alongX = vertical.length === 0 || (horizontal.length > 0 && random.chance(0.5));
  const [first, second] = random.pick(alongX ? horizontal : vertical);
  const inOrder = random.chance(0.5);
  const [a, b] = (inOrder ? [first, second] : [second, first]).map((object) => reference(scene, object));
  if (alongX) return { type: 'relation', text: `is the ${a} left or right of the ${b}?`, answer: inOrder ? 'left' : 'right' };
  return { type: 'relation', text: `is the ${a} above or below the ${b}?`, answer: inOrder ? 'above' : 'below' };
}

function where(scene: SceneLayout, random: Random): Question | undefined {
  const half = SCENE_SIZE / 2;
  const clear = scene.objects.filter(({ cx, cy }) => Math.abs(cx - half) >= QUADRANT_MARGIN && Math.abs(cy - half) >= QUADRANT_MARGIN);
  if (clear.length === 0) return undefined;
  const object = random.pick(clear);
  const answer = `${object.cy < half ? 'top' : 'bottom'}-${object.cx < half ? 'left' : 'right'}`;
  return { type: 'where', text: `where is the ${reference(scene, object)}?`, answer };
}

function letterOf(scene: SceneLayout): Question | undefined {
  const letter = scene.objects.find(({ kind }) => kind === 'letter')?.letter;
  return letter === undefined ? undefined : { type: 'letter', text: 'which letter is there?', answer: letter };
}

const MAKERS: Readonly<Record<QuestionType, (scene: SceneLayout, random: Random) => Question | undefined>> = {
  exists,
  colour: colourOf,
  shape: shapeOf,
  count: countOf,
  relation,
  where,
  letter: letterOf,
};

/** Every word that can be an answer, by type. */
export const ANSWERS: Readonly<Record<QuestionType, readonly string[]>> = {
  exists: ['yes', 'no'],
  colour: COLOURS,
  shape: KINDS,
  count: Array.from({ length: MAX_OBJECTS + 1 }, (_, i) => String(i)),
  relation: ['left', 'right', 'above', 'below'],
  where: ['top-left', 'top-right', 'bottom-left', 'bottom-right'],
  letter: ['A', 'C', 'E', 'H', 'K', 'T', 'X', 'Z'],
};

/**
 * `count` questions about a scene: all types in a shuffled order, again and again; types that the scene cannot answer are skipped.
 * Each has one true answer, which follows from the scene alone, and guessing by the words of the question is of little use.
 */
export function makeQuestions(scene: SceneLayout, random: Random, count: number): Question[] {
  const questions: Question[] = [];
  while (questions.length < count) {
    for (const type of random.shuffle([...QUESTION_TYPES])) {
      const question = questions.length < count ? MAKERS[type](scene, random) : undefined;
      if (question) questions.push(question);
    }
  }
  return questions;
}
