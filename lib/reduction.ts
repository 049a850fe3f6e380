import * as tf from '@tensorflow/tfjs';
import { PruneError, StateError } from '../layers/errors';
import type { Llama } from '../layers/llama';
import type { Segment } from '../layers/tap';
import type { DecoderView, PruningRun, Reduction } from './prune/types';
import type { Sequence } from './sequence';

/** New tokens of one sequence. */
export interface PrefillInput {
  readonly sequence: Sequence;
  /** Embeddings [S, D]; borrowed. */
  readonly states: tf.Tensor2D;
  /** Which of the S rows are visual tokens, ascending. */
  readonly visualRows: Int32Array;
  readonly pruning?: { readonly run: PruningRun; readonly previousBlockInput: boolean };
}

/** What is left of a sequence's new tokens at some block. */
export interface Live {
  readonly input: PrefillInput;
  /** The remaining rows' places among the new tokens. */
  places: Int32Array;
  visualRows: Int32Array;
  originalIndices: Int32Array;
  /** States that entered the block before, and their positions, where a pruner reads them. */
  previous?: BlockInput;
}

interface BlockInput {
  readonly states: tf.Tensor2D;
  readonly positions: Int32Array;
}

export function newLive(input: PrefillInput): Live {
  const places = Int32Array.from({ length: input.states.shape[0] }, (_, i) => i);
  return { input, places, visualRows: input.visualRows, originalIndices: Int32Array.from(input.visualRows.keys()) };
}

/** Position ids of the remaining rows in a block that has not run yet. */
export function positionsIn(block: number, { input: { sequence }, places }: Live): Int32Array {
  const first = sequence.nextPosition(block);
  return places.map((place, i) => first + (sequence.positions === 'keep' ? place : i));
}

export function segmentsOf(lives: readonly Live[]): Segment[] {
  let start = 0;
  return lives.map(({ places: { length } }) => {
    const segment = { start, length };
    start += length;
    return segment;
  });
}

/** The last row of each segment. */
export function lastRowsOf(segments: readonly Segment[]): Int32Array {
  return Int32Array.from(segments, ({ start, length }) => start + length - 1);
}

/** Keeps what enters the block about to run, for pruners that read it one block later. */
export function keepPrevious(block: number, states: tf.Tensor2D, lives: readonly Live[]): void {
  for (const [i, { start, length }] of segmentsOf(lives).entries()) {
    const live = lives[i] as Live;
    if (!live.input.pruning?.previousBlockInput || live.visualRows.length === 0) continue;
    tf.dispose(live.previous?.states);
    live.previous = { states: tf.slice(states, [start, 0], [length, -1]), positions: positionsIn(block, live) };
  }
}

/** Asks every pruner; returns the remaining rows, or undefined when nobody dropped any. */
export async function reduceAll(
  llama: Llama,
  block: number,
  states: tf.Tensor2D,
  lives: readonly Live[],
  hook: 'beforeBlock' | 'afterBlock',
): Promise<tf.Tensor2D | undefined> {
  const rows: number[] = [];
  let dropped = false;
  for (const [i, segment] of segmentsOf(lives).entries()) {
    const live = lives[i] as Live;
    const run = live.input.pruning?.run;
    let kept: Int32Array | undefined;
    if (run?.[hook] && live.visualRows.length > 0) {
      const view = new SequenceView(llama, block, states, segment, live);
      try {
        const reduction = await run[hook]?.(view);
        if (reduction) kept = rowsAfter(reduction, live);
      } finally {
        view.dispose();
      }
    }
    if (kept && kept.length < segment.length) {
      for (const row of kept) rows.push(segment.start + row);
      carryOut(live, kept);
      dropped = true;
    } else {
      for (let row = 0; row < segment.length; row++) rows.push(segment.start + row);
    }
  }
  return dropped ? tf.tidy(() => tf.gather(states, tf.tensor1d(rows, 'int32'))) : undefined;
}

/** Rows of the sequence that stay, ascending. The last one always does: its logits are the answer. @throws PruneError `BAD_REDUCTION` */
function rowsAfter(reduction: Reduction, live: Live): Int32Array {
  const stays = new Uint8Array(live.places.length).fill(1);
  for (const row of live.visualRows) stays[row] = row === stays.length - 1 ? 1 : 0;
  let last = -1;
  for (const index of reduction.keep) {
    const row = live.visualRows[index];
    if (row === undefined || index <= last) {
      throw new PruneError(
        'BAD_REDUCTION',
        `A pruner kept visual token ${index} of ${live.visualRows.length} after ${last}: indices must be inside the current tokens and ascending.`,
      );
    }
    last = index;
    stays[row] = 1;
  }
  return Int32Array.from(stays.keys()).filter((row) => stays[row] === 1);
}

function carryOut(live: Live, kept: Int32Array): void {
  const original = new Map(Array.from(live.visualRows, (row, index) => [row, live.originalIndices[index] as number]));
  live.places = kept.map((row) => live.places[row] as number);
  const visual = Array.from(kept.keys()).filter((i) => original.has(kept[i] as number));
  live.visualRows = Int32Array.from(visual);
  live.originalIndices = Int32Array.from(visual, (i) => original.get(kept[i] as number) as number);
}

/** What a pruner sees of one sequence; its tensors are made when asked for and freed when the hook returns. */
class SequenceView implements DecoderView {
  readonly blocks: number;
  readonly sequenceLength: number;
  readonly visualRows: Int32Array;
  readonly originalIndices: Int32Array;
  private own: tf.Tensor2D | undefined;

  constructor(
    private readonly llama: Llama,
    readonly block: number,
    private readonly packed: tf.Tensor2D,
    private readonly segment: Segment,
    private readonly live: Live,
  ) {
    this.blocks = llama.blocks.length;
    this.sequenceLength = segment.length;
    this.visualRows = live.visualRows;
    this.originalIndices = live.originalIndices;
  }

  get states(): tf.Tensor2D {
    this.own ??= tf.keep(tf.slice(this.packed, [this.segment.start, 0], [this.segment.length, -1])); // a pruner may ask inside a tidy
    return this.own;
  }

  attentionRows(block: number, rows: Int32Array, options: { rotary?: boolean } = {}): tf.Tensor3D {
    const source = this.sourceOf(block);
    const { positions } = source;
    return tf.tidy(() => {
      const total = positions.length;
      const hidden = tf.tensor2d(
        Float32Array.from({ length: rows.length * total }, (_, i) => (i % total <= (rows[Math.floor(i / total)] as number) ? 0 : -1e9)),
        [rows.length, total],
      );
      const asking = tf.gather(source.states, tf.tensor1d(rows, 'int32'));
      const { rotary } = this.llama;
      const tables =
        options.rotary === false ? undefined : { asking: rotary.table(rows.map((row) => positions[row] as number)), all: rotary.table(positions) };
      return (this.llama.blocks[block] as Llama['blocks'][number]).attentionRows(asking, source.states, hidden, tables);
    });
  }

  dispose(): void {
    this.own?.dispose();
    this.own = undefined;
  }

  private sourceOf(block: number): BlockInput {
    if (block === this.block) return { states: this.states, positions: positionsIn(block, this.live) };
    const { previous, places } = this.live;
    if (block === this.block - 1 && previous?.positions.length === places.length) return previous;
    throw new StateError(
      'NO_BLOCK_INPUT',
      `Attention of block ${block} was asked for at block ${this.block}; only this block and, with needs.previousBlockInput, the one before are at hand.`,
    );
  }
}
