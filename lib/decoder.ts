import * as tf from '@tensorflow/tfjs';
import { causalMask } from '../layers/attention';
import type { KeyValueCache } from '../layers/kv_cache';
import type { BlockContext, Llama } from '../layers/llama';
import type { RotaryTable } from '../layers/rotary';
import type { Segment, Tap } from '../layers/tap';
import type { Pacer } from './pacer';
import { keepPrevious, type Live, newLive, type PrefillInput, positionsIn, reduceAll, segmentsOf } from './reduction';
import type { Sequence } from './sequence';

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
  let states = tf.concat(
    inputs.map((input) => input.states),
    0,
  ); // [R, D]
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

/** Rotary tables and masks, shared by blocks until rows are dropped or a block holds other tokens than the one before. */
class SharedContext {
  readonly context: Omit<BlockContext, 'tap'>;
  private readonly held: readonly number[];

  constructor(llama: Llama, lives: readonly Live[], block: number) {
    this.held = heldIn(block, lives);
    const positions = packedPositions(block, lives);
    const masks = lives.map(({ places: { length: queries } }, i) =>
      queries === 1 ? undefined : causalMask(queries, (this.held[i] as number) + queries),
    );
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
