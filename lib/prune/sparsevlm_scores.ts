import * as tf from '@tensorflow/tfjs';
import { Matrix, SVD } from 'ml-matrix';
import { textRows } from './attention_scores';
import { checkScores } from './checks';
import { highest } from './ranking';
import type { DecoderView } from './types';

/** Of 32 heads, those that look at the image most. */
const PRIORITY_SHARE = 14 / 32;
/** The least that a distance may lessen attention to, in units of no distance: in the released setting no pair of positions comes below. */
const LEAST_GRAVITY = 0.1;
/** Float32's. */
const EPSILON = 2 ** -23;

/**
 * Rows of the text behind the image that have most to do with it, from the embeddings that enter block 0: visual rows times text rows, a softmax over the text
 * for each visual row, their mean; those above the mean of all are raters. Given as distances from the end of the sequence: that is where they stay.
 */
export async function textRaters(view: DecoderView): Promise<Int32Array> {
  const rows = textRows(view, true);
  const { sequenceLength } = view;
  if (rows.length <= 1) return Int32Array.of(1);
  const likeness = tf.tidy(() => {
    const visual = tf.gather(view.states, tf.tensor1d(view.visualRows, 'int32'));
    const text = tf.gather(view.states, tf.tensor1d(rows, 'int32'));
    return tf.mean(tf.softmax(tf.matMul(visual, text, false, true)), 0); // [T]
  });
  try {
    const scores = (await likeness.data()) as Float32Array;
    checkScores(scores);
    const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
    const raters = rows.filter((_, i) => (scores[i] as number) > mean);
    return (raters.length > 0 ? raters : rows).map((row) => sequenceLength - row);
  } finally {
    likeness.dispose();
  }
}

/** What raters see in the block that just ran. */
export interface RaterAttention {
  /** Mean over heads and raters, [n]. */
  readonly scores: Float32Array;
  /** Rank of the matrix [raters, n], where it was asked for. */
  readonly rank?: number;
}

/** Mean over heads, of each rater or of all. */
export async function raterAttention(view: DecoderView, raters: Int32Array, withRank: boolean): Promise<RaterAttention> {
  const rows = raters.map((fromEnd) => view.sequenceLength - fromEnd).sort();
  const map = tf.tidy(() => {
    const one = tf.mean(view.attentionRows(view.block, rows), 0); // [raters, S]
    return withRank ? one : tf.mean(one, 0, true);
  });
  try {
    const values = (await map.data()) as Float32Array;
    const total = view.sequenceLength;
    const ranked = withRank ? rows.length : 1;
    const matrix = Array.from({ length: ranked }, (_, r) => Float32Array.from(view.visualRows, (column) => values[r * total + column] as number));
    const scores = Float32Array.from(view.visualRows, (_, j) => matrix.reduce((sum, row) => sum + (row[j] as number), 0) / ranked);
    checkScores(scores);
    return withRank ? { scores, rank: rankOf(matrix) } : { scores };
  } finally {
    map.dispose();
  }
}

/**
 * As SparseVLM+ has it: attention is divided by what the rotary position embedding makes of two rows of ones at these positions, so that distance counts
 * less, and the mean is over the heads alone whose raters look at the image most.
 */
export async function priorityAttention(view: DecoderView, raters: Int32Array): Promise<Float32Array> {
  const rows = raters.map((fromEnd) => view.sequenceLength - fromEnd).sort();
  const total = view.sequenceLength;
  const byHead = tf.tidy(() => tf.sum(tf.mul(view.attentionRows(view.block, rows), tf.tensor2d(correction(view, rows), [rows.length, total])), 1)); // [heads, S]
  try {
    const values = (await byHead.data()) as Float32Array;
    const { heads } = view.decoder;
    const looks = Float32Array.from({ length: heads }, (_, h) =>
      view.visualRows.reduce((sum, column) => sum + (values[h * total + column] as number), 0),
    );
    checkScores(looks);
    const priority = highest(looks, Math.max(1, Math.round(PRIORITY_SHARE * heads)));
    return Float32Array.from(view.visualRows, (column) => priority.reduce((sum, h) => sum + (values[h * total + column] as number), 0));
  } finally {
    byHead.dispose();
  }
}

/** What each entry of the map [rows, S] is multiplied by: nothing but visual columns counts. */
function correction({ positions, visualRows, sequenceLength, decoder: { frequencies } }: DecoderView, rows: Int32Array): Float32Array {
  const factors = new Float32Array(rows.length * sequenceLength);
  const gravity = (distance: number) => frequencies.reduce((sum, frequency) => sum + Math.cos(frequency * distance), 0) / frequencies.length;
  for (const [r, row] of rows.entries()) {
    for (const column of visualRows) {
      const distance = (positions[row] as number) - (positions[column] as number);
      factors[r * sequenceLength + column] = 1 / Math.max(LEAST_GRAVITY, gravity(distance));
    }
  }
  return factors;
}

/** As torch and numpy count it: singular values above the larger side times float32's epsilon times the largest. */
function rankOf(rows: readonly Float32Array[]): number {
  const columns = rows[0]?.length ?? 0;
  const matrix = new Matrix(rows.map((row) => Array.from(row)));
  const { diagonal } = new SVD(matrix, { computeLeftSingularVectors: false, computeRightSingularVectors: false, autoTranspose: true });
  const least = Math.max(rows.length, columns) * EPSILON * Math.max(...diagonal);
  return diagonal.filter((value) => value > least).length;
}
