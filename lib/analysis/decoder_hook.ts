import * as tf from '@tensorflow/tfjs';
import { StateError } from '../../layers/errors';
import type { Llama } from '../../layers/llama';
import { disposeTable } from '../pass_context';
import type { DecoderView, Pruner, Reduction } from '../prune/types';

/** Looks at a sequence before each block, and may keep some of its visual tokens only. */
export type BeforeBlock = (view: DecoderView) => Promise<Reduction | undefined>;

/** A pruner that is nothing but a hook between blocks; `make` gives each request its own. What is kept keeps its position. */
export function decoderHook(name: string, make: () => BeforeBlock): Pruner {
  return {
    name,
    textDependent: true, // rows of the prompt's last token are read, answers compared: every prompt runs whole
    positions: 'keep',
    needs: () => ({ attention: [] }),
    enteringTokens: (patches, decoderBlocks) => new Array<number>(decoderBlocks).fill(patches), // at most
    begin: () => ({ beforeBlock: make(), dispose() {} }),
  };
}

/**
 * Position ids of a sequence of `length` rows in which all visual tokens in a row share one id, that of the first of them; what follows goes on from
 * there. As the authors' "equi" attention: in LLaVA's prompt all 576 patches have id 35, and the text behind them ids that are smaller by 575.
 */
export function equalPositions(length: number, visualRows: Int32Array): Int32Array {
  const visual = new Set(visualRows);
  const positions = new Int32Array(length);
  for (let row = 1; row < length; row++) {
    positions[row] = (positions[row - 1] as number) + (visual.has(row) && visual.has(row - 1) ? 0 : 1);
  }
  return positions;
}

/**
 * Attention of the sequence's last row in the block about to run, over the visual tokens, softmaxed over all rows and averaged over heads: [N] for each of
 * `positions`, which gives every row of the sequence a position id (what the block itself uses are 0, 1, 2, ... while nothing was dropped).
 */
export async function lastRowAttention(llama: Llama, view: DecoderView, positions: readonly Int32Array[]): Promise<Float32Array[]> {
  const { visualRows, sequenceLength } = view;
  const block = llama.blocks[view.block];
  if (!block) throw new StateError('NO_BLOCK_INPUT', `Attention of block ${view.block} was asked for; the decoder has ${llama.blocks.length}.`);
  const rows = tf.tidy(() => {
    const last = tf.slice(view.states, [sequenceLength - 1, 0], [1, -1]);
    const everything = tf.zeros<tf.Rank.R2>([1, sequenceLength]); // the last row sees all
    const patches = tf.tensor1d(visualRows, 'int32');
    return tf.stack(
      positions.map((ids) => {
        const all = llama.rotary.table(ids);
        const asking = llama.rotary.table(ids.slice(sequenceLength - 1));
        const probabilities = block.attentionRows(last, block.keys(view.states, all), everything, asking); // [heads, 1, S]
        disposeTable(all);
        disposeTable(asking);
        return tf.gather(tf.reshape(tf.mean(probabilities, 0), [sequenceLength]), patches);
      }),
    ) as tf.Tensor2D;
  });
  try {
    const values = (await rows.data()) as Float32Array;
    const count = visualRows.length;
    return positions.map((_, i) => values.slice(i * count, (i + 1) * count));
  } finally {
    rows.dispose();
  }
}

/** 0, 1, 2, ...: what a block of a sequence uses from which nothing was dropped. */
export function ownPositions(length: number): Int32Array {
  return Int32Array.from({ length }, (_, row) => row);
}
