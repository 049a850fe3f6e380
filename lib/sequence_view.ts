import * as tf from '@tensorflow/tfjs';
import { StateError } from '../layers/errors';
import type { KeyValueCache } from '../layers/kv_cache';
import type { Llama, LlamaBlock } from '../layers/llama';
import type { Segment } from '../layers/tap';
import { type BlockInput, type Live, positionsIn, type ReductionPoint } from './live';
import type { Pause } from './pacer';
import type { DecoderFacts, DecoderView, VisualOrigins } from './prune/types';

/** What a pruner sees of one sequence; its tensors are made when asked for and freed when the hook returns. */
export class SequenceView implements DecoderView {
  readonly block: number;
  readonly blocks: number;
  readonly decoder: DecoderFacts;
  readonly sequenceLength: number;
  readonly visualRows: Int32Array;
  readonly originalIndices: Int32Array;
  readonly origins: VisualOrigins;
  private readonly llama: Llama;
  private ownStates: tf.Tensor2D | undefined;
  private ownAttended: tf.Tensor2D | undefined;

  /** `states` and `between` are of all sequences. */
  constructor(
    private readonly point: ReductionPoint,
    private readonly live: Live,
    private readonly segment: Segment,
    private readonly packed: tf.Tensor2D,
    private readonly between: tf.Tensor2D,
  ) {
    const { shape, rotary, blocks } = point.llama;
    this.llama = point.llama;
    this.block = point.block;
    this.blocks = blocks.length;
    this.decoder = {
      heads: shape.num_attention_heads,
      keyValueHeads: shape.num_key_value_heads,
      headDim: shape.head_dim,
      frequencies: rotary.frequencies,
    };
    this.sequenceLength = segment.length;
    this.visualRows = live.visualRows;
    this.originalIndices = live.originalIndices;
    this.origins = live.origins;
  }

  get positions(): Int32Array {
    return this.point.hook === 'beforeBlock' ? positionsIn(this.block, this.live) : this.live.positions;
  }

  get states(): tf.Tensor2D {
    this.ownStates ??= tf.keep(this.rowsOf(this.packed)); // a pruner may ask inside a tidy
    return this.ownStates;
  }

  attended(): tf.Tensor2D {
    if (this.point.hook !== 'afterAttention') {
      throw new StateError(
        'NO_BLOCK_INPUT',
        `What the attention of block ${this.block} gave is at hand in afterAttention only, not in ${this.point.hook}.`,
      );
    }
    this.ownAttended ??= tf.keep(tf.tidy(() => this.blockAt(this.block).attended(this.rowsOf(this.between))));
    return this.ownAttended;
  }

  normed(): tf.Tensor2D {
    return tf.tidy(() => this.llama.normed(this.states));
  }

  attentionRows(block: number, rows: Int32Array, { rotary = true }: { rotary?: boolean } = {}): tf.Tensor3D {
    const { states, positions } = this.inputOf(block);
    return tf.tidy(() => {
      const total = positions.length;
      const hidden = tf.tensor2d(
        Float32Array.from({ length: rows.length * total }, (_, i) => (i % total <= (rows[Math.floor(i / total)] as number) ? 0 : -1e9)),
        [rows.length, total],
      );
      const asking = tf.gather(states, tf.tensor1d(rows, 'int32'));
      const table = rotary ? this.llama.rotary.table(rows.map((row) => positions[row] as number)) : undefined;
      return this.blockAt(block).attentionRows(asking, this.keysOf(block, rotary), hidden, table);
    });
  }

  keys(block: number): tf.Tensor2D {
    return tf.tidy(() => this.keysOf(block, true));
  }

  get pause(): Pause {
    return this.point.pause;
  }

  dispose(): void {
    tf.dispose([this.ownStates, this.ownAttended].filter((tensor) => tensor !== undefined));
    this.ownStates = undefined;
    this.ownAttended = undefined;
  }

  private rowsOf(packed: tf.Tensor2D): tf.Tensor2D {
    return tf.slice(packed, [this.segment.start, 0], [this.segment.length, -1]);
  }

  /** Of a block that ran, those in its cache. Inside a tidy. */
  private keysOf(block: number, rotary: boolean): tf.Tensor2D {
    const { states, positions } = this.inputOf(block);
    const ran = block < this.block || this.point.hook !== 'beforeBlock';
    if (!ran || !rotary) return this.blockAt(block).keys(states, rotary ? this.llama.rotary.table(positions) : undefined);
    const held = (this.live.input.sequence.caches[block] as KeyValueCache).keys();
    return tf.slice(held, [held.shape[0] - positions.length, 0], [-1, -1]);
  }

  private blockAt(block: number): LlamaBlock {
    return this.llama.blocks[block] as LlamaBlock;
  }

  private inputOf(block: number): Omit<BlockInput, 'block'> {
    const { hook } = this.point;
    if (block === this.block && hook !== 'afterBlock') return { states: this.states, positions: this.positions };
    const { lastInput } = this.live;
    if (lastInput?.block === block) return lastInput;
    throw new StateError(
      'NO_BLOCK_INPUT',
      `What entered block ${block} was asked for in ${hook} of block ${this.block}; at hand are a block that has not run yet and, with needs.blockInput, the one that ran last, until tokens are dropped.`,
    );
  }
}
