import * as tf from '@tensorflow/tfjs';
import type { Random } from '../random';
import { COLOURS, GRID_SIDE, PATCH_COUNT, SYMBOLS } from '../scenes/constants';
import type { SceneLayout } from '../scenes/generate';

/** Columns of the multi-hot description of a patch: symbol, colour, own row and column, centre's row and column, is it the centre. */
const PARTS: readonly number[] = [SYMBOLS.length + 1, COLOURS.length + 1, GRID_SIDE, GRID_SIDE, GRID_SIDE + 1, GRID_SIDE + 1, 2];
export const SYMBOLIC_COLUMNS: number = PARTS.reduce((a, b) => a + b, 0);

/** Patches of scenes, described by ones and zeros: [scenes * n, SYMBOLIC_COLUMNS]; `places[i]` are scene i's patches, n for every scene. */
export function describePatches(scenes: readonly SceneLayout[], places: readonly Int32Array[]): tf.Tensor2D {
  const count = places[0]?.length ?? 0;
  const hot = new Float32Array(scenes.length * count * SYMBOLIC_COLUMNS);
  scenes.forEach(({ patchLabels: labels }, scene) => {
    places[scene]?.forEach((p, i) => {
      const isObject = labels.symbol[p] !== 0;
      const values = [
        labels.symbol[p] as number,
        labels.colour[p] as number,
        Math.floor(p / GRID_SIDE),
        p % GRID_SIDE,
        isObject ? (labels.centreRow[p] as number) : GRID_SIDE,
        isObject ? (labels.centreColumn[p] as number) : GRID_SIDE,
        labels.isCentre[p] as number,
      ];
      let at = (scene * count + i) * SYMBOLIC_COLUMNS;
      values.forEach((value, part) => {
        hot[at + value] = 1;
        at += PARTS[part] as number;
      });
    });
  });
  return tf.tensor2d(hot, [scenes.length * count, SYMBOLIC_COLUMNS]);
}

/** Every patch of a scene. */
export const EVERY_PATCH: Int32Array = Int32Array.from({ length: PATCH_COUNT }, (_, i) => i);

/**
 * A random subset of a scene's patches in raster order. Patches of objects are up to several times likelier, by a factor drawn anew each time, so that
 * a model trained on subsets meets poor and rich ones. `centres` is the chance that an object keeps the patch at its centre in any case.
 */
export function randomSubset({ patchLabels: labels }: SceneLayout, count: number, random: Random, centres = 0): Int32Array {
  if (count >= PATCH_COUNT) return EVERY_PATCH;
  const boost = random.between(0, 0.8);
  const keys = Float64Array.from({ length: PATCH_COUNT }, (_, p) => {
    const extra = labels.symbol[p] === 0 ? 0 : boost;
    const kept = centres > 0 && labels.isCentre[p] === 1 && random.chance(centres);
    return random.uniform() + (kept ? 2 : extra);
  });
  const order = Array.from(keys.keys()).sort((a, b) => (keys[b] as number) - (keys[a] as number));
  return Int32Array.from(order.slice(0, count)).sort();
}
