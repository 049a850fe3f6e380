import * as tf from '@tensorflow/tfjs';
import type { AttentionRows } from '../layers/clip_vision';
import { PruneError } from '../layers/errors';
import type { Pause } from './pacer';
import type { AttentionNeed, Grid, VisionView } from './prune/types';

/** One image behind the encoder: what pruners choose from. Owned by whoever encoded it. */
export interface EncodedImage {
  readonly grid: Grid;
  readonly crops: readonly EncodedCrop[];
}

export interface EncodedCrop {
  /** Patches [N, C]. */
  readonly features: tf.Tensor2D;
  /** The class token [1, C] where the checkpoint feeds it to the projector too (`vision_feature_select_strategy: full`). */
  readonly classToken?: tf.Tensor2D;
  /** [heads, N] by `attentionKey`. */
  readonly attention: ReadonlyMap<string, tf.Tensor2D>;
}

/** What was kept of one crop. */
export interface KeptPatches {
  readonly image: number;
  readonly crop: number;
  readonly grid: Grid;
  /** Raster indices, ascending. */
  readonly kept: Int32Array;
  /** Visual tokens that this crop puts into the decoder. */
  readonly tokens: number;
}

export function disposeEncoded(images: readonly EncodedImage[]): void {
  for (const { crops } of images) {
    for (const crop of crops) tf.dispose([crop.features, crop.classToken, ...crop.attention.values()].filter((value) => value !== undefined));
  }
}

export function attentionKey(block: number, rows: AttentionRows): string {
  return `${block} ${rows}`;
}

/** @throws PruneError `BAD_SELECTION` */
export function checkedSelection(kept: Int32Array, patches: number): Int32Array {
  for (const [i, index] of kept.entries()) {
    if (index < 0 || index >= patches || (i > 0 && index <= (kept[i - 1] as number))) {
      throw new PruneError('BAD_SELECTION', `A pruner kept patch ${index} at place ${i}: indices must be ascending and below ${patches}.`);
    }
  }
  return kept;
}

/** Patches among the visual tokens; class tokens do not count. */
export function patchesIn(kept: readonly KeptPatches[]): number {
  return kept.reduce((sum, one) => sum + one.kept.length, 0);
}

/** The features of one crop that go into the projector: [tokens, C]. */
export function keptFeatures(image: EncodedImage, { crop, grid, kept }: KeptPatches): tf.Tensor2D {
  const { features, classToken } = image.crops[crop] as EncodedCrop;
  const patches = kept.length === grid.rows * grid.columns ? features : tf.gather(features, tf.tensor1d(kept, 'int32'));
  return classToken ? tf.concat([classToken, patches], 0) : patches;
}

/** What a pruner sees of one crop. */
export class CropView implements VisionView {
  private all: tf.Tensor2D | undefined;

  constructor(
    readonly image: number,
    readonly crop: number,
    readonly grid: Grid,
    private readonly encoded: EncodedCrop,
    readonly textIds: Int32Array,
    private readonly project: (features: tf.Tensor2D) => tf.Tensor2D,
    readonly pause: Pause,
  ) {}

  get features(): tf.Tensor2D {
    return this.encoded.features;
  }

  attention(need: AttentionNeed): tf.Tensor2D {
    const value = this.encoded.attention.get(attentionKey(need.block, need.rows));
    if (!value) {
      throw new PruneError(
        'ATTENTION_UNAVAILABLE',
        `${need.rows} attention of encoder block ${need.block} was not computed: declare it in needs(), and encode for this pruner.`,
      );
    }
    return value;
  }

  projected(): tf.Tensor2D {
    this.all ??= tf.keep(this.project(this.encoded.features)); // a pruner may ask inside a tidy
    return this.all;
  }

  dispose(): void {
    this.all?.dispose();
  }
}
