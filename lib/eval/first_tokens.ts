import * as tf from '@tensorflow/tfjs';
import { PromptError } from '../../layers/errors';
import type { KeyValueCache } from '../../layers/kv_cache';
import type { BlockContext } from '../../layers/llama';
import type { Segment } from '../../layers/tap';
import { gatherRows } from '../backend/step';
import type { EncodedImage } from '../encoded';
import { lastRowsOf } from '../live';
import type { Llava, Prefilled } from '../llava';
import type { Pacer } from '../pacer';
import { disposeTable } from '../pass_context';
import type { Pruner } from '../prune/types';
import type { Sequence } from '../sequence';

/** Large enough that its exponential is 0 in float32. */
const HIDDEN = -1e9;

/** Prompts that begin alike and speak of the same images: `start` ends with the last image token. */
export interface SharedPrompts {
  readonly start: Int32Array;
  readonly ends: readonly Int32Array[];
  /** What each asks, for methods that read it with a text encoder of their own. */
  readonly questions?: readonly string[];
}

/**
 * Splits prompts behind their last image token.
 * @throws PromptError `PROMPTS_DIFFER` when they do not begin alike
 */
export function sharePrompts(prompts: readonly Int32Array[], imageToken: number): SharedPrompts {
  const first = prompts[0] ?? new Int32Array(0);
  const start = first.slice(0, first.lastIndexOf(imageToken) + 1);
  const ends = prompts.map((prompt, i) => {
    if (prompt.lastIndexOf(imageToken) + 1 !== start.length || start.some((id, j) => prompt[j] !== id)) {
      throw new PromptError(
        'PROMPTS_DIFFER',
        `Prompt ${i} does not begin as prompt 0 does, up to its last image token (${start.length} ids). Ask it alone.`,
      );
    }
    return prompt.slice(start.length);
  });
  return { start, ends };
}

/** Of several prompts that begin alike. */
export interface FirstTokens {
  readonly ids: Int32Array;
  /** Visual tokens that entered each decoder block, by prompt. */
  readonly entering: readonly (readonly number[])[];
}

/**
 * The first token that greedy generation writes after each prompt. When what the pruner keeps does not depend on the question,
 * the images go through the decoder once and all questions go on from its caches; else every prompt is run whole.
 */
export async function firstTokens(
  llava: Llava,
  { start, ends, questions }: SharedPrompts,
  images: readonly EncodedImage[],
  { pruner, pacer }: { readonly pruner: Pruner; readonly pacer: Pacer },
): Promise<FirstTokens> {
  if (start.length === 0 || !sharesImages(llava, images, pruner)) {
    const requests = ends.map((end, i) => ({ inputIds: Int32Array.of(...start, ...end), images, question: questions?.[i] }));
    const { result, prompts } = await llava.prefill(requests, { pruner, pacer, lastRows: true });
    for (const prompt of prompts) prompt.release();
    const entering = result.enteringTokens;
    return { ids: await largestLogits(llava, result.states, result.segments), entering };
  }
  const { result, prompts } = await llava.prefill([{ inputIds: start, images }], { pruner, pacer, lastRows: true });
  result.states.dispose();
  const entering = ends.map(() => result.enteringTokens[0] ?? []);
  const [{ sequence }] = prompts as [Prefilled];
  try {
    const segments = segmentsOf(ends);
    return { ids: await largestLogits(llava, await continueAll(llava, sequence, ends, segments, pacer), segments), entering };
  } finally {
    sequence.dispose();
  }
}

/** Whether what a pruner leaves of images in the decoder is the same for every question: it chooses before the decoder, without the text. */
export function sharesImages(llava: Llava, images: readonly EncodedImage[], pruner: Pruner): boolean {
  if (pruner.textDependent) return false;
  const grids = images.flatMap(({ grid, crops }) => crops.map(() => grid));
  const run = pruner.begin({
    encoder: llava.encoder,
    decoderBlocks: llava.language.blocks.length,
    patchesPerCrop: grids.map(({ rows, columns }) => rows * columns),
    grids,
  });
  const inside = run.beforeBlock ?? run.afterAttention ?? run.afterBlock ?? run.afterPrefill;
  run.dispose();
  return inside === undefined;
}

function segmentsOf(ends: readonly Int32Array[]): Segment[] {
  let start = 0;
  return ends.map(({ length }) => {
    const segment = { start, length };
    start += length;
    return segment;
  });
}

/**
 * Runs several continuations of one sequence as if each stood alone behind it: their rows are packed, a mask hides each from the others,
 * and the position ids of each begin anew. The sequence's caches are of no use afterwards. -> states after the last block [R, D]
 */
async function continueAll(
  llava: Llava,
  sequence: Sequence,
  ends: readonly Int32Array[],
  segments: readonly Segment[],
  pacer: Pacer,
): Promise<tf.Tensor2D> {
  const { language } = llava;
  const rows = segments.reduce((sum, { length }) => sum + length, 0);
  let states = language.embed(Int32Array.from(ends.flatMap((end) => [...end])));
  let shared: { held: number; context: BlockContext } | undefined;
  try {
    for (const [k, block] of language.blocks.entries()) {
      const cache = sequence.caches[k] as KeyValueCache;
      const first = sequence.nextPosition(k);
      if (!shared || shared.held !== cache.length || shared.context.positions[0] !== first) {
        disposeContext(shared?.context);
        const positions = Int32Array.from(segments.flatMap(({ length }) => Array.from({ length }, (_, i) => first + i)));
        const masks = [blockMask(segments, rows, cache.length)];
        shared = {
          held: cache.length,
          context: { segments: [{ start: 0, length: rows }], positions, masks, rotary: language.rotary.table(positions) },
        };
      }
      const next = block.apply(states, shared.context, [cache]);
      states.dispose();
      states = next;
      await pacer.pause();
    }
    return states;
  } catch (error) {
    states.dispose();
    throw error;
  } finally {
    disposeContext(shared?.context);
  }
}

/** [rows, held + rows]: each row sees all that is held, and of the new rows those of its own segment up to itself. */
function blockMask(segments: readonly Segment[], rows: number, held: number): tf.Tensor2D {
  const width = held + rows;
  const mask = new Float32Array(rows * width);
  for (const { start, length } of segments) {
    for (let row = start; row < start + length; row++) {
      mask.fill(HIDDEN, row * width + held, row * width + held + start);
      mask.fill(HIDDEN, row * width + held + row + 1, (row + 1) * width);
    }
  }
  return tf.tensor2d(mask, [rows, width]);
}

function disposeContext(context: BlockContext | undefined): void {
  for (const mask of context?.masks ?? []) mask?.dispose();
  disposeTable(context?.rotary);
}

/** Frees `states`. */
async function largestLogits(llava: Llava, states: tf.Tensor2D, segments: readonly Segment[]): Promise<Int32Array> {
  const best = tf.tidy(() => tf.argMax(llava.language.logits(gatherRows(states, lastRowsOf(segments))), 1));
  states.dispose();
  try {
    return (await best.data()) as Int32Array;
  } finally {
    best.dispose();
  }
}
