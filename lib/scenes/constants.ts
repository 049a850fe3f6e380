/** Side of a scene in pixels, of a patch in pixels, and patches per side: the shipped model's vision config follows from these. */
export const SCENE_SIZE = 128;
export const PATCH_SIZE = 8;
export const GRID_SIDE: number = SCENE_SIZE / PATCH_SIZE;
export const PATCH_COUNT: number = GRID_SIDE * GRID_SIDE;

export const MAX_OBJECTS = 6;
/** Objects' bounding boxes stay this far apart, in pixels. */
export const MIN_GAP = 3;
/** An object owns a patch when it covers more than this share of it. */
export const COVERAGE = 0.15;
/** How many patches one object may own. */
export const MIN_PATCHES = 2;
export const MAX_PATCHES = 40;

export const SHAPES = ['circle', 'square', 'triangle', 'diamond', 'cross', 'ring', 'star'] as const;
export const LETTERS = ['A', 'C', 'E', 'H', 'K', 'T', 'X', 'Z'] as const;
export const COLOURS = ['red', 'green', 'blue', 'yellow', 'purple', 'cyan', 'orange', 'white'] as const;
export const KINDS: readonly [...typeof SHAPES, 'letter'] = [...SHAPES, 'letter'];
/** What a patch can show: class 0 is background, class i + 1 is `SYMBOLS[i]`. */
export const SYMBOLS: readonly [...typeof SHAPES, ...typeof LETTERS] = [...SHAPES, ...LETTERS];

export type Shape = (typeof SHAPES)[number];
export type Letter = (typeof LETTERS)[number];
export type Colour = (typeof COLOURS)[number];
export type Kind = (typeof KINDS)[number];
export type SceneSymbol = (typeof SYMBOLS)[number];

/** Red, green, blue in 0..255 before the jitter of every object. */
export const COLOUR_VALUES: Readonly<Record<Colour, readonly [number, number, number]>> = {
  red: [230, 26, 26],
  green: [26, 178, 38],
  blue: [38, 64, 242],
  yellow: [242, 230, 26],
  purple: [166, 26, 204],
  cyan: [26, 217, 230],
  orange: [255, 140, 13],
  white: [247, 247, 247],
};
export const COLOUR_JITTER = 15;

/** Smallest and largest side of the box of an object in pixels; drawn log-uniformly, so that small ones are common. */
export const SIZE_RANGE: Readonly<Record<Kind, readonly [number, number]>> = {
  circle: [9, 50],
  square: [9, 50],
  triangle: [11, 58],
  diamond: [11, 58],
  cross: [10, 54],
  ring: [11, 50],
  star: [13, 60],
  letter: [19, 50],
};

/** A half-open range of scene seeds. */
export interface SeedRange {
  readonly first: number;
  readonly end: number;
}
/*
 * The ranges are disjoint: a scene that was trained on is never evaluated on. Validation is for choices made while training
 * (when to stop, which recipe); reported figures come from the held-out range only.
 */
export const TRAINING_SEEDS: SeedRange = { first: 0, end: 0x40000000 };
export const VALIDATION_SEEDS: SeedRange = { first: 0x40000000, end: 0x80000000 };
export const HELD_OUT_SEEDS: SeedRange = { first: 0x80000000, end: 0x100000000 };
