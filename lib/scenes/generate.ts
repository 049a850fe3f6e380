import { Random } from '../random';
import { developNoise, paintBackground } from './background';
import {
  COLOUR_JITTER,
  COLOUR_VALUES,
  COLOURS,
  COVERAGE,
  type Colour,
  GRID_SIDE,
  type Kind,
  LETTERS,
  type Letter,
  MAX_OBJECTS,
  MAX_PATCHES,
  MIN_GAP,
  MIN_PATCHES,
  PATCH_COUNT,
  PATCH_SIZE,
  SCENE_SIZE,
  SHAPES,
  SIZE_RANGE,
  SYMBOLS,
} from './constants';
import { symbolMask } from './masks';

export interface SceneObject {
  readonly kind: Kind;
  /** Only where `kind` is 'letter'. */
  readonly letter?: Letter;
  readonly colour: Colour;
  /** Centre and side of the bounding box, in pixels. */
  readonly cx: number;
  readonly cy: number;
  readonly size: number;
  /** How many patches it owns. */
  readonly patches: number;
}

/** One entry per patch in raster order. */
export interface PatchLabels {
  /** 0 is background, i + 1 is `SYMBOLS[i]`. */
  readonly symbol: Uint8Array;
  /** 0 is background, i + 1 is `COLOURS[i]`. */
  readonly colour: Uint8Array;
  /** Index of the object that owns the patch, -1 for background. */
  readonly object: Int8Array;
  /** Patch row and column of the centre of the owning object; 0 for background. */
  readonly centreRow: Uint8Array;
  readonly centreColumn: Uint8Array;
  /** 1 for the one patch of each object that is nearest to its centre. */
  readonly isCentre: Uint8Array;
}

/** What is in a scene and where, without its picture. */
export interface SceneLayout {
  readonly seed: number;
  readonly size: number;
  readonly objects: readonly SceneObject[];
  readonly patchLabels: PatchLabels;
}

export interface Scene extends SceneLayout {
  /** [size, size, 3] */
  readonly pixels: Uint8Array;
}

interface Draft {
  readonly kind: Kind;
  readonly letter?: Letter;
  readonly colour: Colour;
}

interface Placed extends Draft {
  x: number;
  y: number;
  size: number;
}

const LETTER_CHANCE = 0.5;
const SHARED_COLOUR_CHANCE = 0.3;
const SHARED_KIND_CHANCE = 0.3;
const PLACE_ATTEMPTS = 40;

/** The patch row (or column) in which a pixel row (or column) lies. */
const STRIP = Uint8Array.from({ length: SCENE_SIZE }, (_, i) => Math.floor(i / PATCH_SIZE));
const canvas = new Float32Array(SCENE_SIZE * SCENE_SIZE * 3);

/** What is in the scene: no two objects of the same kind and colour, at most one letter, shared colours and kinds often. */
function draftObjects(random: Random): Draft[] {
  const count = 1 + random.below(MAX_OBJECTS);
  const letterAt = random.chance(LETTER_CHANCE) ? random.below(count) : -1;
  const drafts: Draft[] = [];
  while (drafts.length < count) {
    let colour: Colour = random.pick(COLOURS);
    let kind: Kind = random.pick(SHAPES);
    const share = random.uniform();
    if (drafts.length > 0 && share < SHARED_COLOUR_CHANCE) colour = random.pick(drafts).colour;
    else if (drafts.length > 0 && share < SHARED_COLOUR_CHANCE + SHARED_KIND_CHANCE) {
      const other = random.pick(drafts).kind;
      if (other !== 'letter') kind = other;
    }
    if (drafts.length === letterAt) kind = 'letter';
    if (drafts.some((other) => other.kind === kind && other.colour === colour)) continue;
    drafts.push(kind === 'letter' ? { kind, letter: random.pick(LETTERS), colour } : { kind, colour });
  }
  return drafts;
}

function symbolOf(object: Draft): (typeof SYMBOLS)[number] {
  return object.kind === 'letter' ? (object.letter as Letter) : object.kind;
}

/** Share of every patch that an object covers, in 0..1. */
function coverage(object: Placed): Float32Array {
  const share = new Float32Array(PATCH_COUNT);
  const mask = symbolMask(symbolOf(object), object.size);
  for (let dy = 0, i = 0; dy < object.size; dy++) {
    const row = (STRIP[object.y + dy] as number) * GRID_SIDE;
    for (let dx = 0; dx < object.size; dx++, i++) {
      const patch = row + (STRIP[object.x + dx] as number);
      share[patch] = (share[patch] as number) + (mask[i] as number);
    }
  }
  for (let p = 0; p < PATCH_COUNT; p++) share[p] = (share[p] as number) / (255 * PATCH_SIZE * PATCH_SIZE);
  return share;
}

function farEnough(a: Placed, b: Placed): boolean {
  return a.x >= b.x + b.size + MIN_GAP || b.x >= a.x + a.size + MIN_GAP || a.y >= b.y + b.size + MIN_GAP || b.y >= a.y + a.size + MIN_GAP;
}

/** Gives every object a box; undefined when the draw does not fit, or an object owns too few or too many patches. */
function place(random: Random, drafts: readonly Draft[]): { placed: Placed[]; owner: Int8Array } | undefined {
  const placed: Placed[] = drafts.map((draft) => {
    const [low, high] = SIZE_RANGE[draft.kind];
    return { ...draft, x: 0, y: 0, size: Math.round(low * (high / low) ** random.uniform()) };
  });
  const done: Placed[] = [];
  // Large ones first: they are the hardest to fit, and dropping them would make crowded scenes small.
  for (const object of [...placed].sort((a, b) => b.size - a.size)) {
    let attempt = 0;
    do {
      if (attempt++ === PLACE_ATTEMPTS) return undefined;
      object.x = random.below(SCENE_SIZE - object.size + 1);
      object.y = random.below(SCENE_SIZE - object.size + 1);
    } while (!done.every((other) => farEnough(object, other)));
    done.push(object);
  }
  const owner = new Int8Array(PATCH_COUNT).fill(-1);
  const best = new Float32Array(PATCH_COUNT).fill(COVERAGE);
  placed.forEach((object, index) => {
    const share = coverage(object);
    for (let p = 0; p < PATCH_COUNT; p++) {
      if ((share[p] as number) > (best[p] as number)) {
        best[p] = share[p] as number;
        owner[p] = index;
      }
    }
  });
  const fits = countOwned(owner, placed.length).every((patches) => patches >= MIN_PATCHES && patches <= MAX_PATCHES);
  return fits ? { placed, owner } : undefined;
}

function countOwned(owner: Int8Array, objects: number): number[] {
  const counts = new Array<number>(objects).fill(0);
  for (const index of owner) if (index >= 0) counts[index] = (counts[index] as number) + 1;
  return counts;
}

function labelPatches(placed: readonly Placed[], owner: Int8Array): PatchLabels {
  const symbol = new Uint8Array(PATCH_COUNT);
  const colour = new Uint8Array(PATCH_COUNT);
  const centreRow = new Uint8Array(PATCH_COUNT);
  const centreColumn = new Uint8Array(PATCH_COUNT);
  const isCentre = new Uint8Array(PATCH_COUNT);
  placed.forEach((object, index) => {
    const cx = object.x + object.size / 2;
    const cy = object.y + object.size / 2;
    let nearest = -1;
    let distance = Number.POSITIVE_INFINITY;
    for (let p = 0; p < PATCH_COUNT; p++) {
      if (owner[p] !== index) continue;
      symbol[p] = SYMBOLS.indexOf(symbolOf(object)) + 1;
      colour[p] = COLOURS.indexOf(object.colour) + 1;
      centreRow[p] = Math.floor(cy / PATCH_SIZE);
      centreColumn[p] = Math.floor(cx / PATCH_SIZE);
      const away = Math.hypot(((p % GRID_SIDE) + 0.5) * PATCH_SIZE - cx, (Math.floor(p / GRID_SIDE) + 0.5) * PATCH_SIZE - cy);
      if (away < distance) {
        distance = away;
        nearest = p;
      }
    }
    isCentre[nearest] = 1;
  });
  return { symbol, colour, object: owner, centreRow, centreColumn, isCentre };
}

function paintObject(random: Random, object: Placed): void {
  const mask = symbolMask(symbolOf(object), object.size);
  const rgb = COLOUR_VALUES[object.colour].map((value) => value + random.between(-COLOUR_JITTER, COLOUR_JITTER));
  for (let dy = 0, i = 0; dy < object.size; dy++) {
    let at = ((object.y + dy) * SCENE_SIZE + object.x) * 3;
    for (let dx = 0; dx < object.size; dx++, i++, at += 3) {
      const alpha = (mask[i] as number) / 255;
      if (alpha === 0) continue;
      for (let c = 0; c < 3; c++) canvas[at + c] = (1 - alpha) * (canvas[at + c] as number) + alpha * (rgb[c] as number);
    }
  }
}

interface Plan {
  readonly random: Random;
  readonly placed: readonly Placed[];
  readonly layout: SceneLayout;
}

function plan(seed: number): Plan {
  const random = new Random(seed);
  const drafts = draftObjects(random);
  let fit = place(random, drafts);
  while (!fit) fit = place(random, drafts);
  const { placed, owner } = fit;
  const patches = countOwned(owner, placed.length);
  const objects = placed.map(({ x, y, ...rest }, index): SceneObject => {
    return { ...rest, cx: x + rest.size / 2, cy: y + rest.size / 2, patches: patches[index] as number };
  });
  return { random, placed, layout: { seed, size: SCENE_SIZE, objects, patchLabels: labelPatches(placed, owner) } };
}

/** The same scene as `generateScene` makes, without painting it. */
export function layoutScene(seed: number): SceneLayout {
  return plan(seed).layout;
}

/**
 * A picture with 1 to 6 objects before a cluttered ground, and everything that is true of it. The same seed gives the same scene.
 * `TRAINING_SEEDS`, `VALIDATION_SEEDS` and `HELD_OUT_SEEDS` say which seeds are for what.
 */
export function generateScene(seed: number): Scene {
  const { random, placed, layout } = plan(seed);
  paintBackground(random, canvas);
  for (const object of placed) paintObject(random, object);
  const pixels = new Uint8Array(canvas.length);
  developNoise(random, canvas, pixels);
  return { ...layout, pixels };
}
