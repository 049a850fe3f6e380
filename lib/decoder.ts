import * as tf from '@tensorflow/tfjs';
import type { KeyValueCache } from '../layers/kv_cache';
import type { BlockContext, Llama, LlamaBlock, LlamaShape } from '../layers/llama';
import type { RotaryTable } from '../layers/rotary';
import type { Segment, Tap } from '../layers/tap';
import { columnsOf, inSteps, rowsOf } from './backend/step';
import type { Pacer, Pause } from './pacer';
import { cachesOf, disposeTable, SharedContext, widthsOf } from './pass_context';
import { keepPrevious, newLive, type PrefillInput, reduceAll, segmentsOf } from './reduction';
import type { Sequence } from './sequence';

export interface PassOptions {
  readonly pacer: Pacer;
  /** Sees whole blocks: with a tap, no block is done in steps. */
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
        shared = new SharedContext(llama, lives, k, options.tap);
      }
      for (const [i, live] of lives.entries()) entering[i]?.push(live.visualRows.length);
      keepPrevious(k, states, lives);
      const block = llama.blocks[k] as LlamaBlock;
      const next = shared.whole
        ? block.apply(states, shared.whole, cachesOf(k, lives))
        : await blockInSteps({ block, shape: llama.shape, shared, caches: cachesOf(k, lives) }, states, options.pacer.pause);
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

/**
 * Logits of every row: states after the last block [R, D] -> [R, vocabulary]. In steps, as the blocks; the caller disposes the result.
 */
export function allLogits(llama: Llama, states: tf.Tensor2D, { pacer, tap }: PassOptions): Promise<tf.Tensor2D> {
  const { hidden_size: width, vocab_size: vocabulary } = llama.shape;
  return inSteps(states.shape[0], tap ? 0 : 2 * width * vocabulary, (start, length) => llama.logits(rowsOf(states, start, length), tap), pacer.pause);
}

interface SteppedBlock {
  readonly block: LlamaBlock;
  readonly shape: LlamaShape;
  readonly shared: SharedContext;
  readonly caches: readonly KeyValueCache[];
}

/** `block.apply` in steps. A later part of the rows sees what earlier ones put into the caches. */
async function blockInSteps({ block, shape, shared, caches }: SteppedBlock, states: tf.Tensor2D, pause: Pause): Promise<tf.Tensor2D> {
  const { width, queryWidth, keyWidth } = widthsOf(shape);
  const count = states.shape[0];
  const owned: tf.Tensor[] = [];
  const own = <T extends tf.Tensor>(tensor: T): T => {
    owned.push(tensor);
    return tensor;
  };
  try {
    const project = (start: number, length: number) => {
      const { queries, keys, values } = block.project(rowsOf(states, start, length), shared.rotaryOf(start, length));
      return tf.concat([queries, keys, values], 1);
    };
    const projected = own(await inSteps(count, 2 * width * (queryWidth + 2 * keyWidth), project, pause));
    const mixedParts: tf.Tensor2D[] = [];
    for (const { start, length, context, sequences } of shared.parts) {
      const mixed = tf.tidy(() => {
        const columns = columnsOf(rowsOf(projected, start, length), [queryWidth, keyWidth, keyWidth]);
        const [queries, keys, values] = columns as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
        const own = sequences.map((i) => caches[i] as KeyValueCache);
        return block.mix({ queries, keys, values }, { ...context, rotary: shared.rotary }, own);
      });
      mixedParts.push(own(mixed));
      await pause();
    }
    const mixed = mixedParts.length === 1 ? (mixedParts[0] as tf.Tensor2D) : own(tf.concat(mixedParts, 0));
    const finish = (start: number, length: number) => block.finish(rowsOf(states, start, length), rowsOf(mixed, start, length));
    return await inSteps(count, 2 * width * (queryWidth + 3 * shape.intermediate_size), finish, pause);
  } finally {
    tf.dispose(owned);
  }
}
