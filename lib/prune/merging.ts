import type * as tf from '@tensorflow/tfjs';
import type { Grid } from './grid';

/** Tokens that a method makes of several patches. */
export interface MergedTokens {
  /** [T, C] before the projector, or [T, D] behind it, in the order that they enter the decoder in; handed over. */
  readonly tokens: tf.Tensor2D;
  readonly space: 'features' | 'projected';
  /** Rows of the features (patches) that each is made of, first the one that it stands for. One that stands for none in particular begins with -1. */
  readonly members: readonly Int32Array[];
}

/** One crop inside the encoder. Tensors are borrowed for the call. */
export interface EncoderView {
  readonly block: number;
  readonly blocks: number;
  readonly grid: Grid;
  /** [1 + n, C], the class token first: behind the attention and its residual, or behind the block. */
  readonly states: tf.Tensor2D;
  /** The block's keys [1 + n, C], heads side by side. */
  readonly keys: tf.Tensor2D;
  /** Of the n rows, the patches in each, ascending. */
  readonly members: readonly Int32Array[];
}

/** For each of the n patch rows, which new row it becomes part of: 0 to rows - 1; -1 drops it. Each new row is the mean of its patches. */
export interface RowGroups {
  readonly group: Int32Array;
  readonly rows: number;
}

/** Merges tokens between the encoder's blocks. It knows no request: an encoding serves all questions. */
export interface EncoderReducer {
  /** Two reducers of one key do the same. */
  readonly key: string;
  /** Whether later blocks count a merged token once for each patch in it: the logarithm of their number is added to the scores of its key. */
  readonly weighted: boolean;
  /** Between attention and MLP of a block. */
  afterAttention?(view: EncoderView): Promise<RowGroups | undefined>;
  /** Behind a block, unless rows were merged between its attention and its MLP: its keys are no longer theirs then. */
  afterBlock?(view: EncoderView): Promise<RowGroups | undefined>;
}
