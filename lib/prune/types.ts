import type * as tf from '@tensorflow/tfjs';
import type { Grid } from './grid';
import type { EncoderReducer, MergedTokens } from './merging';

export type { Grid };

/** What a pruner can know of an encoder before anything runs. */
export interface EncoderFacts {
  /** All that the encoder has; those behind the features run only when a pruner reads them. */
  readonly blocks: number;
  /** The 0-based block whose output are the features (`vision_feature_layer`). */
  readonly featureBlock: number;
  readonly heads: number;
  readonly hasClassToken: boolean;
  /** The checkpoint feeds the class token to the decoder itself (`vision_feature_select_strategy: full`): no method drops it, and none has to add it. */
  readonly feedsClassToken: boolean;
}

/**
 * Attention of one encoder block, as [heads, N] over the patches: the class token's row (softmaxed, class column left out),
 * or the mean over all queries of what each patch receives.
 */
export interface AttentionNeed {
  readonly block: number;
  readonly rows: 'class' | 'received';
}

/** Queries and keys of one encoder block, [1 + N, C] each: with biases, heads side by side, not scaled, the class token first. */
export interface Projections {
  readonly queries: tf.Tensor2D;
  readonly keys: tf.Tensor2D;
}

export interface Needs {
  readonly attention: readonly AttentionNeed[];
  /** Encoder blocks whose queries and keys are read. */
  readonly projections?: readonly number[];
  /** `VisionView.classToken` will be asked for. */
  readonly classToken?: boolean;
  /** Merges tokens between the encoder's blocks: such an encoding serves this pruner alone. */
  readonly encoder?: EncoderReducer;
  /** `DecoderView.attentionRows` or `keys` will be asked for the block that ran last: the loop keeps that block's input. */
  readonly blockInput?: boolean;
}

/** One crop of one image between encoder and projector. Tensors are borrowed for the call. */
export interface VisionView {
  readonly image: number;
  readonly crop: number;
  readonly grid: Grid;
  /** [N, C], before the projector. Fewer rows than patches where an `EncoderReducer` merged some. */
  readonly features: tf.Tensor2D;
  /** The patches of each row, ascending, where an `EncoderReducer` merged some. */
  readonly members?: readonly Int32Array[];
  /** [heads, N] for one of the needs declared. */
  attention(need: AttentionNeed): tf.Tensor2D;
  /** For one of the encoder blocks declared in `needs.projections`. */
  projections(block: number): Projections;
  /** The class token of the feature block, [1, C], before the projector, where `needs.classToken` was declared. */
  classToken(): tf.Tensor2D;
  /** All patches through the projector, [N, D], computed when first asked for, with pauses; borrowed. */
  projected(): Promise<tf.Tensor2D>;
  /** The prompt's ids without image tokens. */
  readonly textIds: Int32Array;
  /** Their embeddings [T, D], looked up when first asked for; borrowed. */
  textEmbeddings(): Promise<tf.Tensor2D>;
  /** To be awaited every 50 ms or so in long work of one's own: lets others have their turn. @throws the signal's reason once the call is aborted */
  pause(): Promise<void>;
}

/** What one crop puts into the decoder: kept patches, or tokens made of several. */
export interface Selection {
  /** Rows of the features (patches) that are kept, ascending; with `merged`, those that a merged token stands for first. */
  readonly kept: Int32Array;
  readonly merged?: MergedTokens;
}

/** What becomes of the visual tokens now in the sequence. */
export interface Reduction {
  /** Those that stay: indices into the current ones, ascending. */
  readonly keep: Int32Array;
  /** Tokens made of dropped ones; they follow the last visual token. */
  readonly merged?: {
    /** [m, D], in the space of `DecoderView.states`; handed over. */
    readonly states: tf.Tensor2D;
    /** For each, the current visual token whose position it takes where positions are kept. */
    readonly places: Int32Array;
  };
}

/** The head shape and rotary frequencies that scores of one's own need. */
export interface DecoderFacts {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  /** Rotary angle per position of each pair of dimensions, [headDim / 2]. */
  readonly frequencies: Float32Array;
}

/** One sequence inside the decoder during prefill. Tensors are borrowed for the call. */
export interface DecoderView {
  /** The block about to run (`beforeBlock`), half run (`afterAttention`) or just run (`afterBlock`). */
  readonly block: number;
  readonly blocks: number;
  readonly decoder: DecoderFacts;
  readonly sequenceLength: number;
  /** Position id of each row of the sequence in the block at hand. */
  readonly positions: Int32Array;
  /** Sequence rows of the visual tokens in current numbering, ascending. */
  readonly visualRows: Int32Array;
  /** For each of them, its index among the visual tokens that entered the decoder; -1 for one that was merged inside it. */
  readonly originalIndices: Int32Array;
  /** For each visual token that entered the decoder, by original index: its crop (counted over all images) and its patch in it. */
  readonly origins: VisualOrigins;
  /** [S, D]: entering the block in `beforeBlock` and `afterAttention`, leaving it in `afterBlock`. */
  readonly states: tf.Tensor2D;
  /** Only in `afterAttention`: the states behind the attention and its residual, through the block's second norm, [S, D]. */
  attended(): tf.Tensor2D;
  /** The states through the decoder's last norm, [S, D]; the caller disposes it. */
  normed(): tf.Tensor2D;
  /**
   * Causal attention of a few query rows over the whole current sequence, softmaxed: [heads, rows.length, S]; the caller disposes it.
   * `block` is the one about to run or half run, or, when `needs.blockInput` was declared, the one that ran last. `rotary: false` leaves the position embedding out.
   */
  attentionRows(block: number, rows: Int32Array, options?: { rotary?: boolean }): tf.Tensor3D;
  /** The block's keys with their position embedding, [S, keyValueHeads * headDim], of the same blocks as `attentionRows`; the caller disposes it. */
  keys(block: number): tf.Tensor2D;
  /** As `VisionView.pause`. */
  pause(): Promise<void>;
}

/** Where visual tokens come from. */
export interface VisualOrigins {
  readonly crops: Int32Array;
  /** Raster index; -1 for a token that was merged out of patches and stands for no single one. */
  readonly patches: Int32Array;
}

/** The caches of one sequence after prefill. */
export interface CacheView {
  readonly blocks: number;
  /** Original indices of the visual tokens that a block holds, in order; -1 for merged ones. */
  visualTokens(block: number): Int32Array;
  /** Forgets all visual tokens of a block but those at these indices into `visualTokens(block)`, ascending. */
  retain(block: number, keep: Int32Array): void;
}

/** State of one request. Every method that is absent costs nothing. */
export interface PruningRun {
  /** Between encoder and projector, once per crop. */
  select?(view: VisionView): Promise<Selection>;
  /** In prefill, before block `view.block` runs. */
  beforeBlock?(view: DecoderView): Promise<Reduction | undefined>;
  /** In prefill, between attention and MLP of block `view.block`: what is dropped here has given its keys and values, and goes no further. */
  afterAttention?(view: DecoderView): Promise<Reduction | undefined>;
  /** In prefill, after block `view.block` ran. */
  afterBlock?(view: DecoderView): Promise<Reduction | undefined>;
  /** Once after prefill; for pruners with `positions: 'keep'`. */
  afterPrefill?(caches: CacheView): Promise<void>;
  dispose(): void;
}

/** What is asked of a pruner for one request. */
export interface RequestView {
  readonly encoder: EncoderFacts;
  readonly decoderBlocks: number;
  /** N of every crop, in order of appearance. */
  readonly patchesPerCrop: readonly number[];
  readonly grids: readonly Grid[];
  /** The user's text, where the call knows it: of `ask` and its kin, not of `forward` and `generate`. */
  readonly question?: string;
}

/** A pruning method with its options already checked. */
export interface Pruner {
  readonly name: string;
  /** What the encoder has to hand over. The model computes exactly this and never the whole map. */
  needs(encoder: EncoderFacts): Needs;
  /** false: what an image keeps does not depend on the question, so its key-value cache can be reused. */
  readonly textDependent: boolean;
  /** After a reduction inside the decoder: `keep` original position ids (gaps), or `compact` ones. The decoder's loop carries it out. */
  readonly positions: 'compact' | 'keep';
  /**
   * Position ids of what `select` keeps: counted anew (`compact`, the default), or, for pruners with `positions: 'keep'`, those that the patches have when
   * nothing is pruned (`keep`): a token merged of several patches then has that of the one it stands for.
   */
  readonly selectionPositions?: 'compact' | 'keep';
  /** Two pruners of one key do the same to the same image. Without one, only kept patches tell whether a cache can be reused. */
  readonly key?: string;
  /**
   * Visual tokens entering each decoder block of one crop of N patches: the budget by which methods are compared; `undefined` where it depends on the image.
   */
  enteringTokens(patches: number, decoderBlocks: number): readonly number[] | undefined;
  begin(request: RequestView): PruningRun;
}
