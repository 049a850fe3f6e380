import type * as tf from '@tensorflow/tfjs';

/** Patches of one crop in raster order: `rows * columns` of them. */
export interface Grid {
  readonly rows: number;
  readonly columns: number;
}

/** What a pruner can know of an encoder before anything runs. */
export interface EncoderFacts {
  readonly blocks: number;
  /** The 0-based block whose output are the features (`vision_feature_layer`). */
  readonly featureBlock: number;
  readonly hasClassToken: boolean;
}

/**
 * Attention of one encoder block, as [heads, N] over the patches: the class token's row (softmaxed, class column left out),
 * or the mean over all queries of what each patch receives.
 */
export interface AttentionNeed {
  readonly block: number;
  readonly rows: 'class' | 'received';
}

export interface Needs {
  readonly attention: readonly AttentionNeed[];
  /** `DecoderView.attentionRows` will be asked for the block before: the loop keeps that block's input. */
  readonly previousBlockInput?: boolean;
}

/** One crop of one image between encoder and projector. Tensors are borrowed for the call. */
export interface VisionView {
  readonly image: number;
  readonly crop: number;
  readonly grid: Grid;
  /** [N, C], before the projector. */
  readonly features: tf.Tensor2D;
  /** [heads, N] for one of the needs declared. */
  attention(need: AttentionNeed): tf.Tensor2D;
  /** All patches through the projector, [N, D], computed when first asked for; borrowed. */
  projected(): tf.Tensor2D;
  /** The prompt's ids without image tokens. */
  readonly textIds: Int32Array;
  /** To be awaited every 50 ms or so in long work of one's own: lets others have their turn. @throws the signal's reason once the call is aborted */
  pause(): Promise<void>;
}

/** Kept patches, ascending, of one crop. */
export interface Selection {
  readonly kept: Int32Array;
}

/** Which of the visual tokens now in the sequence stay: indices into the current ones, ascending. */
export interface Reduction {
  readonly keep: Int32Array;
}

/** One sequence inside the decoder during prefill. Tensors are borrowed for the call. */
export interface DecoderView {
  /** The block about to run (`beforeBlock`) or just run (`afterBlock`). */
  readonly block: number;
  readonly blocks: number;
  readonly sequenceLength: number;
  /** Sequence rows of the visual tokens in current numbering, ascending. */
  readonly visualRows: Int32Array;
  /** For each of them, its index among the visual tokens that entered the decoder. */
  readonly originalIndices: Int32Array;
  /** States entering the block [S, D]. */
  readonly states: tf.Tensor2D;
  /**
   * Causal attention of a few query rows over the whole current sequence, softmaxed: [heads, rows.length, S]; the caller disposes it.
   * `block` is this block or, when `previousBlockInput` was declared, the one before. `rotary: false` leaves the position embedding out.
   */
  attentionRows(block: number, rows: Int32Array, options?: { rotary?: boolean }): tf.Tensor3D;
}

/** State of one request. Every method that is absent costs nothing. */
export interface PruningRun {
  /** Between encoder and projector, once per crop. */
  select?(view: VisionView): Promise<Selection>;
  /** In prefill, before block `view.block` runs. */
  beforeBlock?(view: DecoderView): Promise<Reduction | undefined>;
  /** In prefill, after block `view.block` ran. */
  afterBlock?(view: DecoderView): Promise<Reduction | undefined>;
  dispose(): void;
}

/** What is asked of a pruner for one request. */
export interface RequestView {
  readonly encoder: EncoderFacts;
  readonly decoderBlocks: number;
  /** N of every crop, in order of appearance. */
  readonly patchesPerCrop: readonly number[];
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
  /** Visual tokens entering each decoder block of one crop of N patches: the budget by which methods are compared. */
  enteringTokens(patches: number, decoderBlocks: number): readonly number[];
  begin(request: RequestView): PruningRun;
}
