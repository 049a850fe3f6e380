import * as tf from '@tensorflow/tfjs';
import { checkScores } from './checks';
import type { DecoderView } from './types';

/** Elements of an attention map that are held at once: 64 MiB. */
const MOST_ELEMENTS = 2 ** 24;

/** How heads become one. */
export type HeadReduction = 'mean' | 'max';

/**
 * Attention that each current visual token gets from rows of the sequence in a block, summed over the rows of each group, [n] each. One download.
 *
 * @throws PruneError `ATTENTION_NOT_FINITE`
 */
export async function attentionOfGroups(
  view: DecoderView,
  block: number,
  groups: readonly Int32Array[],
  heads: HeadReduction = 'mean',
): Promise<Float32Array[]> {
  const rows = Int32Array.from(groups.flatMap((group) => [...group]));
  const groupOf = groups.flatMap((group, g) => Array.from(group, () => g));
  const most = Math.max(1, Math.floor(MOST_ELEMENTS / (view.decoder.heads * view.sequenceLength)));
  let sums: tf.Tensor2D = tf.zeros([groups.length, view.sequenceLength]);
  try {
    for (let start = 0; start < rows.length; start += most) {
      const some = rows.slice(start, start + most);
      const added = tf.tidy(() => {
        const map = view.attentionRows(block, some); // [heads, rows, S]
        const one = (heads === 'max' ? tf.max(map, 0) : tf.mean(map, 0)) as tf.Tensor2D; // [rows, S]
        const members = groups.map((_, g) => Array.from(some, (__, i) => (groupOf[start + i] === g ? 1 : 0)));
        return tf.add<tf.Tensor2D>(sums, tf.matMul(tf.tensor2d(members, [groups.length, some.length]), one));
      });
      sums.dispose();
      sums = added;
      await view.pause();
    }
    const all = (await sums.data()) as Float32Array;
    return groups.map((_, g) => {
      const scores = Float32Array.from(view.visualRows, (row) => all[g * view.sequenceLength + row] as number);
      checkScores(scores);
      return scores;
    });
  } finally {
    sums.dispose();
  }
}

/** Attention of some rows, summed, [n]. @throws PruneError `ATTENTION_NOT_FINITE` */
export async function attentionFrom(view: DecoderView, block: number, rows: Int32Array): Promise<Float32Array> {
  const [scores] = await attentionOfGroups(view, block, [rows]);
  return scores as Float32Array;
}

/** Attention of the sequence's last row, [n]. @throws PruneError `ATTENTION_NOT_FINITE` */
export function attentionOfLast(view: DecoderView, block: number): Promise<Float32Array> {
  return attentionFrom(view, block, Int32Array.of(view.sequenceLength - 1));
}

/** Rows of the sequence that are no visual tokens, ascending; with `behind`, those behind the last visual token alone. */
export function textRows({ sequenceLength, visualRows }: DecoderView, behind: boolean): Int32Array {
  const visual = new Set(visualRows);
  const first = behind ? (visualRows.at(-1) ?? -1) + 1 : 0;
  return Int32Array.from({ length: sequenceLength - first }, (_, i) => first + i).filter((row) => !visual.has(row));
}
