import * as tf from '@tensorflow/tfjs';
import { PromptError } from '../../layers/errors';
import { prefill } from '../decoder';
import type { EncodedImage, Llava } from '../llava';
import type { Pacer } from '../pacer';
import type { Pruner } from '../prune/types';

/** Prompts that begin alike and speak of the same images: `start` ends with the last image token. */
export interface SharedPrompts {
  readonly start: Int32Array;
  readonly ends: readonly Int32Array[];
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

/**
 * The first token that greedy generation writes after each prompt. When what the pruner keeps does not depend on the question,
 * the images go through the decoder once and all questions go on from its caches; else every prompt is run whole.
 */
export async function firstTokens(
  llava: Llava,
  { start, ends }: SharedPrompts,
  images: readonly EncodedImage[],
  { pruner, pacer }: { readonly pruner: Pruner; readonly pacer: Pacer },
): Promise<Int32Array> {
  if (pruner.textDependent || start.length === 0) {
    const requests = ends.map((end) => ({ inputIds: Int32Array.of(...start, ...end), images }));
    const { result, sequences } = await llava.prefill(requests, { pruner, pacer });
    for (const sequence of sequences) sequence.dispose();
    return largestLogits(llava, result.states, result.segments);
  }
  const { result, sequences } = await llava.prefill([{ inputIds: start, images }], { pruner, pacer });
  result.states.dispose();
  const shared = sequences[0] as (typeof sequences)[number];
  const inputs = ends.map((end) => ({ sequence: shared.fork(), states: llava.language.embed(end), visualRows: new Int32Array(0) }));
  try {
    const answered = await prefill(llava.language, inputs, { pacer });
    return await largestLogits(llava, answered.states, answered.segments);
  } finally {
    shared.dispose();
    for (const { sequence, states } of inputs) {
      sequence.dispose();
      states.dispose();
    }
  }
}

/** Frees `states`. */
async function largestLogits(
  llava: Llava,
  states: tf.Tensor2D,
  segments: readonly { readonly start: number; readonly length: number }[],
): Promise<Int32Array> {
  const best = tf.tidy(() => {
    const last = tf.tensor1d(
      segments.map(({ start, length }) => start + length - 1),
      'int32',
    );
    return tf.argMax(llava.language.logits(tf.gather(states, last)), 1);
  });
  states.dispose();
  try {
    return (await best.data()) as Int32Array;
  } finally {
    best.dispose();
  }
}
