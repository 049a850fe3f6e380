import * as tf from '@tensorflow/tfjs';
import { CausalMask } from '../layers/attention';
import type { KeyValueCache } from '../layers/kv_cache';
import type { BlockContext, Llama, LlamaShape } from '../layers/llama';
import type { RotaryTable } from '../layers/rotary';
import type { Segment, Tap } from '../layers/tap';
import { fitsStep, stepsOf } from './backend/step';
import { type Live, positionsIn, segmentsOf } from './live';

/** Rows that attend in one step. */
export interface Part extends Segment {
  readonly context: Omit<BlockContext, 'rotary'>;
  /** Indices of the sequences that the segments belong to. */
  readonly sequences: readonly number[];
}

/** Rotary tables and masks, shared by blocks until rows are dropped or a block holds other tokens than the one before. */
export class SharedContext {
  readonly rotary: RotaryTable;
  readonly parts: readonly Part[];
  /** Where a block is done in one step. */
  readonly whole: BlockContext | undefined;
  /** Of all rows. */
  readonly positions: Int32Array;
  /** One a sequence. */
  readonly segments: readonly Segment[];
  private readonly held: readonly number[];

  constructor({ rotary, shape }: Llama, lives: readonly Live[], block: number, tap?: Tap) {
    this.held = heldIn(block, lives);
    this.positions = packedPositions(block, lives);
    this.segments = segmentsOf(lives);
    this.rotary = rotary.table(this.positions);
    const { width, queryWidth, keyWidth } = widthsOf(shape);
    const rows = this.positions.length;
    const keys = Math.max(...this.segments.map(({ length }, i) => (this.held[i] as number) + length));
    const attention = 4 * queryWidth * keys;
    const products = 2 * width * (2 * queryWidth + 2 * keyWidth + 3 * shape.intermediate_size);
    const whole = tap !== undefined || fitsStep(rows * (attention + products));
    this.parts = stepsOf(rows, whole ? 0 : attention).map((step) => this.part(step));
    this.whole = whole ? { ...(this.parts[0] as Part).context, rotary: this.rotary, tap } : undefined;
  }

  fits(lives: readonly Live[], block: number): boolean {
    const now = packedPositions(block, lives);
    return (
      now.length === this.positions.length &&
      now.every((position, i) => position === this.positions[i]) &&
      heldIn(block, lives).every((length, i) => length === this.held[i] && lives[i]?.places.length === this.segments[i]?.length)
    );
  }

  /** The table of single rows. Inside a tidy. */
  rotaryAt(rows: Int32Array): RotaryTable {
    const indices = tf.tensor1d(rows, 'int32');
    return { cos: tf.gather(this.rotary.cos, indices), sin: tf.gather(this.rotary.sin, indices) };
  }

  /** The table of rows in a row. Inside a tidy. */
  rotaryOf(start: number, length: number): RotaryTable {
    const rows = (table: tf.Tensor3D) => (length === table.shape[0] ? table : tf.slice(table, [start, 0, 0], [length, -1, -1]));
    return { cos: rows(this.rotary.cos), sin: rows(this.rotary.sin) };
  }

  dispose(): void {
    disposeTable(this.rotary);
    for (const { context } of this.parts) for (const mask of context.masks) mask?.dispose();
  }

  private part({ start, length }: Segment): Part {
    const segments: Segment[] = [];
    const masks: (CausalMask | undefined)[] = [];
    const sequences: number[] = [];
    for (const [i, segment] of this.segments.entries()) {
      const from = Math.max(start, segment.start);
      const to = Math.min(start + length, segment.start + segment.length);
      if (to <= from) continue;
      const queries = to - from;
      sequences.push(i);
      segments.push({ start: from - start, length: queries });
      masks.push(queries === 1 ? undefined : new CausalMask(queries, (this.held[i] as number) + to - segment.start));
    }
    return { start, length, sequences, context: { segments, masks, positions: this.positions.slice(start, start + length) } };
  }
}

export function widthsOf(shape: LlamaShape): { readonly width: number; readonly queryWidth: number; readonly keyWidth: number } {
  const { hidden_size: width, head_dim: headDim } = shape;
  return { width, queryWidth: shape.num_attention_heads * headDim, keyWidth: shape.num_key_value_heads * headDim };
}

export function cachesOf(block: number, lives: readonly Live[]): KeyValueCache[] {
  return lives.map(({ input }) => input.sequence.caches[block] as KeyValueCache);
}

function heldIn(block: number, lives: readonly Live[]): number[] {
  return cachesOf(block, lives).map(({ length }) => length);
}

function packedPositions(block: number, lives: readonly Live[]): Int32Array {
  const positions = new Int32Array(lives.reduce((sum, live) => sum + live.places.length, 0));
  for (const [i, { start }] of segmentsOf(lives).entries()) positions.set(positionsIn(block, lives[i] as Live), start);
  return positions;
}

export function disposeTable(table: RotaryTable | undefined): void {
  table?.cos.dispose();
  table?.sin.dispose();
}
