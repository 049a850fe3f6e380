import * as tf from '@tensorflow/tfjs';
import type { Random } from '../random';
import { PATCH_COUNT } from '../scenes/constants';
import { generateScene, type SceneLayout } from '../scenes/generate';
import { WIDTH } from './recipe';
import { allPatchRows } from './vision_batch';
import type { VisionModel } from './vision_model';

/** A scene as the frozen encoder sees it. */
export interface SeenScene {
  readonly layout: SceneLayout;
  /** [N, C] */
  readonly features: Float32Array;
}

/**
 * Scenes with their features, kept in memory (131 kB each): the encoder is frozen, so a scene is encoded once and asked about many times.
 * The store grows by a few scenes with every draw until it is full.
 */
export class FeatureStore {
  private readonly seen: SeenScene[] = [];

  constructor(
    private readonly vision: VisionModel,
    private readonly firstSeed: number,
    private readonly capacity: number,
  ) {}

  get size(): number {
    return this.seen.length;
  }

  /** `count` scenes, of which `fresh` are new while there is room. */
  async draw(count: number, fresh: number, random: Random): Promise<SeenScene[]> {
    const room = Math.min(this.seen.length < count ? count : fresh, this.capacity - this.seen.length);
    const drawn = room > 0 ? await this.add(room) : [];
    while (drawn.length < count) drawn.push(random.pick(this.seen));
    return drawn;
  }

  private async add(count: number): Promise<SeenScene[]> {
    const scenes = await encodeScenes(
      this.vision,
      Array.from({ length: count }, (_, i) => this.firstSeed + this.seen.length + i),
    );
    this.seen.push(...scenes);
    return scenes;
  }
}

export async function encodeScenes(vision: VisionModel, seeds: readonly number[]): Promise<SeenScene[]> {
  const scenes = seeds.map(generateScene);
  const rows = allPatchRows(scenes);
  const features = vision.features(rows, scenes.length);
  const values = (await features.data()) as Float32Array;
  tf.dispose([rows, features]);
  return scenes.map(({ pixels: _, ...layout }, i) => ({ layout, features: values.slice(i * PATCH_COUNT * WIDTH, (i + 1) * PATCH_COUNT * WIDTH) }));
}

/** The features of chosen patches, end to end: [scenes * n, C]. */
export function gatherFeatures(scenes: readonly SeenScene[], places: readonly Int32Array[]): tf.Tensor2D {
  const count = places[0]?.length ?? 0;
  const rows = new Float32Array(scenes.length * count * WIDTH);
  scenes.forEach(({ features }, scene) => {
    places[scene]?.forEach((place, i) => {
      rows.set(features.subarray(place * WIDTH, (place + 1) * WIDTH), (scene * count + i) * WIDTH);
    });
  });
  return tf.tensor2d(rows, [scenes.length * count, WIDTH]);
}
