import * as tf from '@tensorflow/tfjs';
import { causalMask } from '../layers/attention';
import { PruneError, StateError } from '../layers/errors';
import type { KeyValueCache } from '../layers/kv_cache';
import type { BlockContext, Llama } from '../layers/llama';
import type { RotaryTable } from '../layers/rotary';
import type { Segment, Tap } from '../layers/tap';
import type { Pacer } from './pacer';
import type { DecoderView, PruningRun, Reduction } from './prune/types';

/** One sequence in the decoder: its caches, one a block, which may differ in length when tokens were dropped between blocks. */
export class Sequence {
  /** Tokens that entered the first block so far. */
  private entered = 0;

  constructor(
    readonly caches: readonly KeyValueCache[],
    /** What dropped tokens do to position ids: leave gaps that all blocks share (`keep`), or close up in each block that misses them (`compact`). */
    readonly positions: 'keep' | 'compact' = 'keep',
  ) {}

  /** Position id of the next token in the block. */
  nextPosition(block: number): number {
    return this.positions === 'keep' ? this.entered : (this.caches[block] as KeyValueCache).length;
  }

  /** Call it when `tokens` more have gone through all blocks. */
  advance(tokens: number): void {
    this.entered += tokens;
  }

  fork(): Sequence {
    const copy = new Sequence(
      this.caches.map((cache) => cache.fork()),
      this.positions,
    );
    copy.entered = this.entered;
    return copy;
  }

  dispose(): void {
    for (const cache of this.caches) cache.dispose();
  }
}

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
interface Live {
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

export interface PassOptions {
  readonly pacer: Pacer;
  readonly tap?: Tap;
}

export interface PrefillResult {
  /** After the last block, before the final norm, all sequences' remaining rows [R, D]; the caller disposes it. */
  readonly states: tf.Tensor2D;
  readonly segments: readonly Segment[];
  /** Visual tokens that entered each block, by sequence. */
  readonly enteringTokens: readonly (readonly number[])[];
}

/**
 * Runs new tokens of several sequences through all blocks, as packed rows, and lets pruners reduce the visual ones between blocks.
 * Pruners return which tokens stay; positions, masks and caches are this loop's business alone.
 */
export async function prefill(llama: Llama, inputs: readonly PrefillInput[], options: PassOptions): Promise<PrefillResult> {
  const lives = inputs.map(newLive);
  const entering: number[][] = inputs.map(() => []);
  let states = tf.concat(inputs.map((input) => input.states), 0); // [R, D]
  let shared: SharedContext | undefined;
  try {
    for (let k = 0; k < llama.blocks.length; k++) {
      const before = await reduceAll(llama, k, states, lives, 'beforeBlock');
      if (before) {
        states.dispose();
        states = before;
      }
      if (!shared?.fits(lives, k)) {
        shared?.dispose();
        shared = new SharedContext(llama, lives, k);
      }
      for (const [i, live] of lives.entries()) entering[i]?.push(live.visualRows.length);
      keepPrevious(k, states, lives);
      const caches = lives.map((live) => live.input.sequence.caches[k] as KeyValueCache);
      const next = (llama.blocks[k] as Llama['blocks'][number]).apply(states, { ...shared.context, tap: options.tap }, caches);
      states.dispose();
      states = next;
      await options.pacer.pause();
      const after = await reduceAll(llama, k, states, lives, 'afterBlock');
      if (after) {
        states.dispose();
        states = after;
      }
    }
    for (const { input } of lives) input.sequence.advance(input.states.shape[0]);
    return { states, segments: segmentsOf(lives), enteringTokens: entering };
  } catch (error) {
    states.dispose();
    throw error;
  } finally {
    shared?.dispose();
    for (const live of lives) tf.dispose(live.previous?.states);
  }
}

/** One more token for each sequence. Embeddings [B, D], one row a sequence -> states after the last block [B, D]; the caller disposes it. */
export async function decodeStep(llama: Llama, embeddings: tf.Tensor2D, sequences: readonly Sequence[], options: PassOptions): Promise<tf.Tensor2D> {
  const segments = sequences.map((_, i) => ({ start: i, length: 1 }));
  const masks = sequences.map(() => undefined);
  let states = embeddings.clone();
  let positions = new Int32Array(0);
  let rotary: RotaryTable | undefined;
  try {
    for (let k = 0; k < llama.blocks.length; k++) {
      const now = Int32Array.from(sequences, (sequence) => sequence.nextPosition(k));
      if (!rotary || now.some((position, i) => position !== positions[i])) {
        disposeTable(rotary);
        rotary = llama.rotary.table(now);
        positions = now;
      }
      const caches = sequences.map((sequence) => sequence.caches[k] as KeyValueCache);
      const context: BlockContext = { segments, masks, rotary, positions, tap: options.tap };
      const next = (llama.blocks[k] as Llama['blocks'][number]).apply(states, context, caches);
      states.dispose();
      states = next;
      await options.pacer.pause();
    }
    for (const sequence of sequences) sequence.advance(1);
    return states;
  } catch (error) {
    states.dispose();
    throw error;
  } finally {
    disposeTable(rotary);
  }
}

function newLive(input: PrefillInput): Live {
  const places = Int32Array.from({ length: input.states.shape[0] }, (_, i) => i);
  return { input, places, visualRows: input.visualRows, originalIndices: Int32Array.from(input.visualRows.keys()) };
}

/** Position ids of the remaining rows in a block that has not run yet. */
function positionsIn(block: number, { input: { sequence }, places }: Live): Int32Array {
  const first = sequence.nextPosition(block);
  return places.map((place, i) => first + (sequence.positions === 'keep' ? place : i));
}

function segmentsOf(lives: readonly Live[]): Segment[] {
  let start = 0;
  return lives.map(({ places: { length } }) => {
    const segment = { start, length };
    start += length;
    return segment;
  });
}

/** Rotary tables and masks, shared by blocks until rows are dropped or a block holds other tokens than the one before. */
class SharedContext {
  readonly context: Omit<BlockContext, 'tap'>;
  private readonly held: readonly number[];

  constructor(llama: Llama, lives: readonly Live[], block: number) {
    this.held = heldIn(block, lives);
    const positions = packedPositions(block, lives);
    const masks = lives.map(({ places: { length: queries } }, i) => (queries === 1 ? undefined : causalMask(queries, (this.held[i] as number) + queries)));
    this.context = { segments: segmentsOf(lives), positions, masks, rotary: llama.rotary.table(positions) };
  }

  fits(lives: readonly Live[], block: number): boolean {
    const { positions, segments } = this.context;
    const now = packedPositions(block, lives);
    return (
      now.length === positions.length &&
      now.every((position, i) => position === positions[i]) &&
      heldIn(block, lives).every((length, i) => length === this.held[i] && lives[i]?.places.length === segments[i]?.length)
    );
  }

  dispose(): void {
    disposeTable(this.context.rotary);
    for (const mask of this.context.masks) mask?.dispose();
  }
}

function heldIn(block: number, lives: readonly Live[]): number[] {
  return lives.map(({ input }) => (input.sequence.caches[block] as KeyValueCache).length);
}

function packedPositions(block: number, lives: readonly Live[]): Int32Array {
  const positions = new Int32Array(lives.reduce((sum, live) => sum + live.places.length, 0));
  for (const [i, { start }] of segmentsOf(lives).entries()) positions.set(positionsIn(block, lives[i] as Live), start);
  return positions;
}

function disposeTable(table: RotaryTable | undefined): void {
  table?.cos.dispose();
  table?.sin.dispose();
}

/** Keeps what enters the block about to run, for pruners that read it one block later. */
function keepPrevious(block: number, states: tf.Tensor2D, lives: readonly Live[]): void {
  for (const [i, { start, length }] of segmentsOf(lives).entries()) {
    const live = lives[i] as Live;
    if (!live.input.pruning?.previousBlockInput || live.visualRows.length === 0) continue;
    tf.dispose(live.previous?.states);
    live.previous = { states: tf.slice(states, [start, 0], [length, -1]), positions: positionsIn(block, live) };
  }
}

/** Asks every pruner; returns the remaining rows, or undefined when nobody dropped any. */
async function reduceAll(
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
        options.rotary === false
          ? undefined
          : { asking: rotary.table(rows.map((row) => positions[row] as number)), all: rotary.table(positions) };
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
