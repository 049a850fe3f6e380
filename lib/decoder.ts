import * as tf from '@tensorflow/tfjs';
import type { KeyValueCache } from '../layers/kv_cache';
import type { BlockContext, Llama, LlamaBlock } from '../layers/llama';
import type { RotaryTable } from '../layers/rotary';
import type { Segment, Tap } from '../layers/tap';
import { gatherRows, inSteps, rowsOf } from './backend/step';
import { blockInSteps, lastRowsOfBlock } from './block_steps';
import { cutCaches, noteCached } from './cache_view';
import { lastRowsOf, newLive, type PrefillInput, type ReductionHook, segmentsOf } from './live';
import type { Pacer } from './pacer';
import { cachesOf, disposeTable, SharedContext } from './pass_context';
import { noteBlockInput, reduceAll } from './reduction';
import type { Sequence } from './sequence';

export interface PassOptions {
  readonly pacer: Pacer;
  /** Sees whole blocks: with a tap, no block is done in steps. */
  readonly tap?: Tap;
}

export interface PrefillOptions extends PassOptions {
  /** Wanted is each sequence's last row alone: the last block does no more for the others than to fill its caches. */
  readonly lastRows?: boolean;
}

export interface PrefillResult {
  /** After the last block, before the final norm, all sequences' remaining rows, or their last ones, [R, D]; the caller disposes it. */
  readonly states: tf.Tensor2D;
  readonly segments: readonly Segment[];
  /** Visual tokens that entered each block, by sequence. */
  readonly enteringTokens: readonly (readonly number[])[];
}

/**
 * Runs new tokens of several sequences through all blocks, as packed rows, and lets pruners reduce the visual ones between blocks.
 * Pruners return which tokens stay; positions, masks and caches are this loop's business alone.
 */
export async function prefill(llama: Llama, inputs: readonly PrefillInput[], options: PrefillOptions): Promise<PrefillResult> {
  const lives = inputs.map(newLive);
  const entering: number[][] = inputs.map(() => []);
  let states = tf.concat(
    inputs.map((input) => input.states),
    0,
  ); // [R, D]
  let shared: SharedContext | undefined;
  const { pause } = options.pacer;
  const asked = (hook: ReductionHook) => lives.some(({ input }) => input.pruning?.run[hook]);
  const filtered = asked('afterAttention');
  const wholeLast = options.tap !== undefined || filtered || asked('afterBlock');
  try {
    for (let k = 0; k < llama.blocks.length; k++) {
      const point = (hook: ReductionHook) => ({ llama, block: k, hook, pause });
      const before = await reduceAll(point('beforeBlock'), lives, states);
      if (before) {
        states.dispose();
        states = before;
      }
      if (!shared?.fits(lives, k)) {
        shared?.dispose();
        shared = new SharedContext(llama, lives, k, options.tap);
      }
      for (const [i, live] of lives.entries()) entering[i]?.push(live.visualRows.length);
      noteBlockInput(k, states, lives);
      noteCached(k, lives);
      const stepped = { block: llama.blocks[k] as LlamaBlock, shape: llama.shape, shared, caches: cachesOf(k, lives) };
      if (k === llama.blocks.length - 1 && options.lastRows && !wholeLast) {
        const last = await lastRowsOfBlock(stepped, states, pause);
        states.dispose();
        states = last;
        break;
      }
      const entered = states;
      const filter = filtered ? (between: tf.Tensor2D) => reduceAll(point('afterAttention'), lives, entered, between) : undefined;
      const next =
        shared.whole && !filter ? stepped.block.apply(states, shared.whole, stepped.caches) : await blockInSteps(stepped, states, pause, filter);
      states.dispose();
      states = next;
      await pause();
      const after = await reduceAll(point('afterBlock'), lives, states);
      if (after) {
        states.dispose();
        states = after;
      }
    }
    for (const { input } of lives) input.sequence.advance(input.unpruned?.length ?? input.states.shape[0]);
    await cutCaches(lives);
    const segments = segmentsOf(lives);
    if (!options.lastRows) return { states, segments, enteringTokens: entering };
    if (states.shape[0] > lives.length) {
      const last = gatherRows(states, lastRowsOf(segments));
      states.dispose();
      states = last;
    }
    return { states, segments: lives.map((_, start) => ({ start, length: 1 })), enteringTokens: entering };
  } catch (error) {
    states.dispose();
    throw error;
  } finally {
    shared?.dispose();
    for (const live of lives) tf.dispose(live.lastInput?.states);
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

/**
 * Logits of every row: states after the last block [R, D] -> [R, vocabulary]. In steps, as the blocks; the caller disposes the result.
 */
export function allLogits(llama: Llama, states: tf.Tensor2D, { pacer, tap }: PassOptions): Promise<tf.Tensor2D> {
  const { hidden_size: width, vocab_size: vocabulary } = llama.shape;
  return inSteps(states.shape[0], tap ? 0 : 2 * width * vocabulary, (start, length) => llama.logits(rowsOf(states, start, length), tap), pacer.pause);
}
