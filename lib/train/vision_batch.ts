import * as tf from '@tensorflow/tfjs';
import type { Random } from '../random';
import { COLOURS, KINDS, PATCH_COUNT, PATCH_SIZE, SCENE_SIZE, SYMBOLS } from '../scenes/constants';
import type { Scene } from '../scenes/generate';
import { PIXEL_MEAN, PIXEL_STD } from '../scenes/tokenizer';

const PATCH_VALUES = 3 * PATCH_SIZE * PATCH_SIZE;
/** What the class token is asked: which (kind, colour) pairs, which symbols in which quadrant, which colours in which quadrant. */
export const CLASS_TARGETS: number = KINDS.length * COLOURS.length + 4 * SYMBOLS.length + 4 * COLOURS.length;

/** Scenes as the encoder's input and stage 1's targets; every crop has the same number of patches. Tensors belong to whoever made the batch. */
export interface VisionBatch {
  readonly crops: number;
  /** n patches of each crop. */
  readonly patches: number;
  /** Raster indices [crops * n]. */
  readonly places: Int32Array;
  /** [crops * n, 3 * patch * patch] */
  readonly rows: tf.Tensor2D;
  /** 0 is ground. [crops * n] each. */
  readonly symbol: tf.Tensor1D;
  readonly colour: tf.Tensor1D;
  readonly centreRow: tf.Tensor1D;
  readonly centreColumn: tf.Tensor1D;
  readonly isObject: tf.Tensor1D;
  readonly isCentre: tf.Tensor1D;
  /** [crops, CLASS_TARGETS], 0 or 1 */
  readonly present: tf.Tensor2D;
  /** [crops] */
  readonly count: tf.Tensor1D;
  /** Where the class token should look, [crops, n]: every object has the same mass, half of it on its centre; sums to 1. */
  readonly look: tf.Tensor2D;
}

/**
 * `count` patches of a scene in raster order: those of objects first (one in ten left to chance, for the model must bear gaps), then ground at random.
 */
export function choosePatches(scene: Scene, random: Random, count: number): Int32Array {
  if (count >= PATCH_COUNT) return Int32Array.from({ length: PATCH_COUNT }, (_, i) => i);
  const keys = Float64Array.from(scene.patchLabels.symbol, (symbol) => random.uniform() + (symbol > 0 && random.chance(0.9) ? 1 : 0));
  const order = Array.from(keys.keys()).sort((a, b) => (keys[b] as number) - (keys[a] as number));
  return Int32Array.from(order.slice(0, count)).sort();
}

/** Normalised pixels of chosen patches, each (channel, row, column) as torch's convolution weights are. */
export function patchRows(scene: Scene, places: Int32Array, target: Float32Array, offset: number): void {
  const side = SCENE_SIZE / PATCH_SIZE;
  let at = offset;
  for (const place of places) {
    const top = Math.floor(place / side) * PATCH_SIZE;
    const left = (place % side) * PATCH_SIZE;
    for (let channel = 0; channel < 3; channel++) {
      const scale = 1 / (255 * (PIXEL_STD[channel] as number));
      const shift = (PIXEL_MEAN[channel] as number) / (PIXEL_STD[channel] as number);
      for (let y = 0; y < PATCH_SIZE; y++) {
        let from = ((top + y) * SCENE_SIZE + left) * 3 + channel;
        for (let x = 0; x < PATCH_SIZE; x++, from += 3) target[at++] = (scene.pixels[from] as number) * scale - shift;
      }
    }
  }
}

/** All patches of scenes as the encoder takes them, [scenes * N, values]. */
export function allPatchRows(scenes: readonly Scene[]): tf.Tensor2D {
  const rows = new Float32Array(scenes.length * PATCH_COUNT * PATCH_VALUES);
  const places = Int32Array.from({ length: PATCH_COUNT }, (_, i) => i);
  for (const [i, scene] of scenes.entries()) patchRows(scene, places, rows, i * PATCH_COUNT * PATCH_VALUES);
  return tf.tensor2d(rows, [scenes.length * PATCH_COUNT, PATCH_VALUES]);
}

function classTargets(scene: Scene, target: Float32Array, offset: number): void {
  const quadrants = KINDS.length * COLOURS.length;
  for (const object of scene.objects) {
    const colour = COLOURS.indexOf(object.colour);
    const symbol = SYMBOLS.indexOf(object.kind === 'letter' ? (object.letter as (typeof SYMBOLS)[number]) : object.kind);
    const quadrant = (object.cy < SCENE_SIZE / 2 ? 0 : 2) + (object.cx < SCENE_SIZE / 2 ? 0 : 1);
    target[offset + KINDS.indexOf(object.kind) * COLOURS.length + colour] = 1;
    target[offset + quadrants + quadrant * SYMBOLS.length + symbol] = 1;
    target[offset + quadrants + 4 * SYMBOLS.length + quadrant * COLOURS.length + colour] = 1;
  }
}

export function visionBatch(scenes: readonly Scene[], random: Random, patches: number): VisionBatch {
  const crops = scenes.length;
  const total = crops * patches;
  const rows = new Float32Array(total * PATCH_VALUES);
  const places = new Int32Array(total);
  const symbol = new Int32Array(total);
  const colour = new Int32Array(total);
  const centreRow = new Int32Array(total);
  const centreColumn = new Int32Array(total);
  const isObject = new Float32Array(total);
  const isCentre = new Float32Array(total);
  const present = new Float32Array(crops * CLASS_TARGETS);
  const look = new Float32Array(total);
  scenes.forEach((scene, crop) => {
    const { patchLabels: labels, objects } = scene;
    const chosen = choosePatches(scene, random, patches);
    patchRows(scene, chosen, rows, crop * patches * PATCH_VALUES);
    classTargets(scene, present, crop * CLASS_TARGETS);
    let mass = 0;
    chosen.forEach((place, i) => {
      const at = crop * patches + i;
      const owner = labels.object[place] as number;
      places[at] = place;
      symbol[at] = labels.symbol[place] as number;
      colour[at] = labels.colour[place] as number;
      centreRow[at] = labels.centreRow[place] as number;
      centreColumn[at] = labels.centreColumn[place] as number;
      isObject[at] = owner >= 0 ? 1 : 0;
      isCentre[at] = labels.isCentre[place] as number;
      look[at] = owner >= 0 ? 0.5 / (objects[owner] as { patches: number }).patches + 0.5 * (isCentre[at] as number) : 0;
      mass += look[at] as number;
    });
    for (let i = 0; i < patches; i++) look[crop * patches + i] = (look[crop * patches + i] as number) / Math.max(mass, 1e-6);
  });
  const ints = (values: Int32Array) => tf.tensor1d(values, 'int32');
  return {
    crops,
    patches,
    places,
    rows: tf.tensor2d(rows, [total, PATCH_VALUES]),
    symbol: ints(symbol),
    colour: ints(colour),
    centreRow: ints(centreRow),
    centreColumn: ints(centreColumn),
    isObject: tf.tensor1d(isObject),
    isCentre: tf.tensor1d(isCentre),
    present: tf.tensor2d(present, [crops, CLASS_TARGETS]),
    count: ints(Int32Array.from(scenes, (scene) => scene.objects.length)),
    look: tf.tensor2d(look, [crops, patches]),
  };
}
