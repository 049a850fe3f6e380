import * as tf from '@tensorflow/tfjs';
import { checkScores } from './checks';
import type { DecoderView } from './types';

/** Elements of an attention map that are held at once: 64 MiB. */
const MOST_ELEMENTS = 2 ** 24;

/** How rows and heads become one number a column. */
export interface ScoreOptions {
  /** Over heads; default: their mean. */
  readonly heads?: 'mean' | 'max';
  /** Without the position embedding when false. */
  readonly rotary?: boolean;
}

/**
 * Attention that each current visual token gets from some rows of the sequence in a block, summed over the rows, [n]. One download.
 *
 * @throws PruneError `ATTENTION_NOT_FINITE`
 */
export async function attentionFrom(view: DecoderView, block: number, rows: Int32Array, options: ScoreOptions = {}): Promise<Float32Array> {
  const { heads = 'mean', rotary } = options;
  const most = Math.max(1, Math.floor(MOST_ELEMENTS / (view.decoder.heads * view.sequenceLength)));
  let sum: tf.Tensor1D | undefined;
  try {
    for (let start = 0; start < rows.length; start += most) {
      const part = tf.tidy(() => {
        const map = view.attentionRows(block, rows.slice(start, start + most), rotary === undefined ? undefined : { rotary }); // [heads, rows, S]
        const one = heads === 'max' ? tf.max(map, 0) : tf.mean(map, 0); // [rows, S]
        const columns = tf.sum(one, 0) as tf.Tensor1D; // [S]
        return sum ? tf.add<tf.Tensor1D>(sum, columns) : columns;
      });
      sum?.dispose();
      sum = part;
      await view.pause();
    }
    const all = sum ? ((await sum.data()) as Float32Array) : new Float32Array(view.sequenceLength);
    const scores = Float32Array.from(view.visualRows, (row) => all[row] as number);
    checkScores(scores);
    return scores;
  } finally {
    sum?.dispose();
  }
}

/** Attention of the sequence's last row, [n]. @throws PruneError `ATTENTION_NOT_FINITE` */
export function attentionOfLast(view: DecoderView, block: number, options?: ScoreOptions): Promise<Float32Array> {
  return attentionFrom(view, block, Int32Array.of(view.sequenceLength - 1), options);
}

/** Rows of the sequence that are no visual tokens, ascending; with `behind`, those behind the last visual token alone. */
export function textRows({ sequenceLength, visualRows }: DecoderView, behind: boolean): Int32Array {
  const visual = new Set(visualRows);
  const first = behind ? (visualRows.at(-1) ?? -1) + 1 : 0;
  return Int32Array.from({ length: sequenceLength - first }, (_, i) => first + i).filter((row) => !visual.has(row));
}
