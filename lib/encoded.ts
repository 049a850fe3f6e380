import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../layers/errors';
import type { Pause } from './pacer';
import type { MergedTokens } from './prune/merging';
import type { AttentionNeed, Grid, Projections, Selection, VisionView } from './prune/types';

/** One image behind the encoder: what pruners choose from. Owned by whoever encoded it. */
export interface EncodedImage {
  readonly grid: Grid;
  readonly crops: readonly EncodedCrop[];
  /** The key of the pruner's `EncoderReducer`, where one merged tokens inside the encoder. */
  readonly reducedBy?: string;
}

export interface EncodedCrop {
  /** Patches [N, C], or fewer rows where tokens were merged inside the encoder. */
  readonly features: tf.Tensor2D;
  /** The patches of each row, ascending, where tokens were merged. */
  readonly members?: readonly Int32Array[];
  /** [1, C], where it is fed to the projector too or was asked for. */
  readonly classToken?: tf.Tensor2D;
  /** Whether the checkpoint feeds the class token to the projector, whatever a pruner keeps (`vision_feature_select_strategy: full`). */
  readonly feedsClassToken: boolean;
  /** [heads, N] by `attentionKey`. */
  readonly attention: ReadonlyMap<string, tf.Tensor2D>;
  /** By encoder block. */
  readonly projections: ReadonlyMap<number, Projections>;
}

/** What was kept of one crop. */
export interface KeptPatches {
  readonly image: number;
  readonly crop: number;
  readonly grid: Grid;
  /** Raster indices, ascending: the kept patches, or those that a merged token stands for first. */
  readonly kept: Int32Array;
  /** Where tokens were merged: the patches in each, in the order in which they enter the decoder. */
  readonly members?: readonly Int32Array[];
  /** Visual tokens that this crop puts into the decoder. */
  readonly tokens: number;
}

/** What one crop puts into the decoder, and how it is made. */
export interface PlacedCrop extends KeptPatches {
  /** Rows of the features that enter as they are; unused where `merged` is there. */
  readonly rows: Int32Array;
  /** Freed once it is in the sequence. */
  readonly merged?: MergedTokens;
  /** For each visual token without the class token, its patch; -1 for one that stands for none in particular. */
  readonly patches: Int32Array;
  /** The pruner's. */
  readonly key?: string;
}

export function disposeEncoded(images: readonly EncodedImage[]): void {
  for (const { crops } of images) {
    for (const { features, classToken, attention, projections } of crops) {
      const projected = [...projections.values()].flatMap(({ queries, keys }) => [queries, keys]);
      tf.dispose([features, classToken, ...attention.values(), ...projected].filter((value) => value !== undefined));
    }
  }
}

export function attentionKey({ block, rows }: AttentionNeed): string {
  return `${block} ${rows}`;
}

/** All that a crop has, where nobody chooses. */
export function everything({ features }: EncodedCrop): Selection {
  return { kept: Int32Array.from({ length: features.shape[0] }, (_, i) => i) };
}

/** @throws PruneError `BAD_SELECTION` */
export function placed(
  { kept, merged }: Selection,
  { features, members: rowMembers, feedsClassToken }: EncodedCrop,
  at: { readonly image: number; readonly crop: number; readonly grid: Grid; readonly key?: string },
): PlacedCrop {
  const count = features.shape[0];
  checkRows(kept, count);
  if (merged) checkMerged(merged, count);
  const patchesOf = (rows: Int32Array): Int32Array =>
    rowMembers ? Int32Array.from([...rows].flatMap((row) => [...(rowMembers[row] ?? [])])).sort() : rows;
  const standsFor = (row: number): number => (row < 0 ? -1 : (rowMembers?.[row]?.[0] ?? row));
  const members = merged
    ? merged.members.map((rows) => patchesOf(rows.filter((row) => row >= 0)))
    : rowMembers && [...kept].map((row) => rowMembers[row] as Int32Array);
  const patches = merged ? Int32Array.from(merged.members, (rows) => standsFor(rows[0] ?? -1)) : kept.map(standsFor);
  const tokens = patches.length + (feedsClassToken ? 1 : 0);
  const shown = rowMembers || merged ? Int32Array.from(kept, standsFor).sort() : kept;
  return { ...at, kept: shown, ...(members ? { members } : {}), tokens, rows: kept, ...(merged ? { merged } : {}), patches };
}

/** What callers are told of a crop. */
export function reported({ image, crop, grid, kept, members, tokens }: PlacedCrop): KeptPatches {
  return { image, crop, grid, kept, ...(members ? { members } : {}), tokens };
}

function checkRows(kept: Int32Array, rows: number): void {
  for (const [i, index] of kept.entries()) {
    if (index < 0 || index >= rows || (i > 0 && index <= (kept[i - 1] as number))) {
      throw new PruneError('BAD_SELECTION', `A pruner kept patch ${index} at place ${i}: indices must be ascending and below ${rows}.`);
    }
  }
}

function checkMerged({ tokens, members }: MergedTokens, rows: number): void {
  if (tokens.rank !== 2 || tokens.shape[0] !== members.length) {
    throw new PruneError(
      'BAD_SELECTION',
      `A pruner merged tokens [${tokens.shape}] and named the patches of ${members.length}: give [T, width] and T lists.`,
    );
  }
  const bad = members.findIndex((one) => one.some((row, i) => row >= rows || row < (i === 0 ? -1 : 0)));
  if (bad >= 0) {
    throw new PruneError(
      'BAD_SELECTION',
      `A pruner made token ${bad} of patches ${[...(members[bad] as Int32Array)]}: they must be below ${rows}, and only the first may be -1.`,
    );
  }
}

/** Visual tokens without class tokens, which no pruner may drop. */
export function patchesIn(kept: readonly KeptPatches[]): number {
  return kept.reduce((sum, one) => sum + (one.members ?? one.kept).length, 0);
}

/** The features of one crop that go into the projector, [n, C]; undefined where there are none. Inside a tidy. */
export function featuresToProject(image: EncodedImage, { crop, rows, merged }: PlacedCrop): tf.Tensor2D | undefined {
  const { features, classToken: held, feedsClassToken } = image.crops[crop] as EncodedCrop;
  const classToken = feedsClassToken ? held : undefined;
  if (merged?.space === 'projected') return classToken;
  const own = merged?.tokens ?? (rows.length === features.shape[0] ? features : tf.gather(features, tf.tensor1d(rows, 'int32')));
  return classToken ? tf.concat([classToken, own], 0) : own;
}

/** What a crop's view has from the model. */
export interface CropContext {
  readonly textIds: Int32Array;
  /** ids [n] -> [n, D] */
  readonly embed: (ids: Int32Array) => Promise<tf.Tensor2D>;
  /** [n, C] -> [n, D] */
  readonly project: (features: tf.Tensor2D) => Promise<tf.Tensor2D>;
  readonly pause: Pause;
}

/** What a pruner sees of one crop. */
export class CropView implements VisionView {
  private readonly owned: tf.Tensor2D[] = [];
  private all: Promise<tf.Tensor2D> | undefined;
  private text: Promise<tf.Tensor2D> | undefined;

  constructor(
    readonly image: number,
    readonly crop: number,
    readonly grid: Grid,
    private readonly encoded: EncodedCrop,
    private readonly context: CropContext,
  ) {}

  get features(): tf.Tensor2D {
    return this.encoded.features;
  }

  get members(): readonly Int32Array[] | undefined {
    return this.encoded.members;
  }

  get textIds(): Int32Array {
    return this.context.textIds;
  }

  attention(need: AttentionNeed): tf.Tensor2D {
    return this.computed(this.encoded.attention.get(attentionKey(need)), `${need.rows} attention of encoder block ${need.block}`);
  }

  classToken(): tf.Tensor2D {
    return this.computed(this.encoded.classToken, 'the class token');
  }

  projections(block: number): Projections {
    return this.computed(this.encoded.projections.get(block), `projections of encoder block ${block}`);
  }

  projected(): Promise<tf.Tensor2D> {
    this.all ??= this.own(this.context.project(this.encoded.features));
    return this.all;
  }

  textEmbeddings(): Promise<tf.Tensor2D> {
    this.text ??= this.own(this.context.embed(this.textIds));
    return this.text;
  }

  get pause(): Pause {
    return this.context.pause;
  }

  dispose(): void {
    tf.dispose(this.owned);
  }

  private async own(made: Promise<tf.Tensor2D>): Promise<tf.Tensor2D> {
    const tensor = await made;
    this.owned.push(tensor);
    return tensor;
  }

  private computed<T>(value: T | undefined, name: string): T {
    if (value !== undefined) return value;
    throw new PruneError('ATTENTION_UNAVAILABLE', `${name} was not computed: declare it in needs(), and encode for this pruner.`);
  }
}
