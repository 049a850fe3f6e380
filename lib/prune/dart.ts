import * as tf from '@tensorflow/tfjs';
import { textRows } from './attention_scores';
import { BUDGET_OPTIONS, type Budget, tokenCount } from './budget';
import { checkScores, wholeNumber } from './checks';
import { checkDepth } from './depth';
import type { Method } from './method';
import { descendingOrder } from './ranking';
import type { DecoderView } from './types';

const LAYER = 2;
const PIVOTS = 4;

export type DartOptions = {
  readonly method: 'dart';
  /** The 0-based block before which tokens are dropped, 1 or more; default 2. */
  readonly layer?: number;
  /** How many visual tokens, and how many text tokens, others are compared with; default 4 and 4. */
  readonly visualPivots?: number;
  readonly textPivots?: number;
} & Budget;

/**
 * DART (Wen et al., EMNLP 2025, https://arxiv.org/abs/2502.11494): duplicates go, importance plays no part. Before block K, once, in prefill, a few visual and
 * text tokens whose keys in block K - 1 have the largest L1 norm become pivots. Each pivot in turn takes the visual tokens that are least like it, by the
 * cosine of their states through the decoder's last norm. Visual pivots and what was taken stay, at their positions.
 */
export const dartMethod: Method<DartOptions> = {
  options: [...BUDGET_OPTIONS, 'layer', 'visualPivots', 'textPivots'],
  about: {
    title: 'DART',
    acts: 'in the decoder, before block K (default 2), once in prefill',
    reads: 'L1 norms of the keys of block K - 1; states through the last norm',
    entering: "N for K blocks, then N'; their mean is (K N + (L - K) N') / L",
    source:
      "Wen et al., EMNLP 2025, [arXiv 2502.11494](https://arxiv.org/abs/2502.11494); read in a fork of the authors' code, xqy1111111/DART @ d6a5af6f, and in LightCompress",
    grade: 'exact',
    differences: [
      'Pivots take their turn in a fixed order: visual ones, then text ones, each from the largest norm. The released code takes them as the hashes of a Python set order them.',
      "Exactly N' tokens stay: what is left over when they are shared out among pivots goes to the first ones. The released code keeps 4 + 8 int(budget / 8).",
      'Of equal norms or likenesses, the earlier token comes first.',
      'Text pivots are behind the image, as in the released code; where nothing is, they are any text.',
      'The visual tokens of several images or crops are one set, with the sum of their budgets and four visual pivots in all.',
    ],
  },
  example: { method: 'dart', tokens: 64, layer: 2 },
  forAverage(average, { patches, decoderBlocks }) {
    for (let layer = Math.min(LAYER, decoderBlocks - 1); layer >= 1; layer--) {
      const kept = Math.round((decoderBlocks * average - layer * patches) / (decoderBlocks - layer));
      if (kept >= 1) return { method: 'dart', layer, tokens: Math.min(kept, patches) };
    }
    return undefined;
  },
  create(options) {
    const layer = wholeNumber(options.layer ?? LAYER, 'layer', 'LAYER_INVALID', 1);
    const visualPivots = wholeNumber(options.visualPivots ?? PIVOTS, 'visualPivots', 'TOKENS_INVALID', 1);
    const textPivots = wholeNumber(options.textPivots ?? PIVOTS, 'textPivots', 'TOKENS_INVALID', 0);
    const count = tokenCount(options);
    return {
      name: 'dart',
      textDependent: true,
      positions: 'keep',
      needs: () => ({ attention: [], blockInput: true }),
      enteringTokens(patches, decoderBlocks) {
        checkDepth([layer], 'layer', decoderBlocks, decoderBlocks - 1);
        const kept = count(patches);
        return Array.from({ length: decoderBlocks }, (_, block) => (block < layer ? patches : kept));
      },
      begin({ patchesPerCrop, decoderBlocks }) {
        checkDepth([layer], 'layer', decoderBlocks, decoderBlocks - 1);
        const kept = patchesPerCrop.reduce((sum, patches) => sum + count(patches), 0);
        return {
          async beforeBlock(view) {
            if (view.block !== layer || view.visualRows.length <= kept) return undefined;
            const norms = await keyNorms(view);
            const pivots = {
              visual: largest(view.visualRows, norms, Math.min(visualPivots, kept)),
              text: largest(pivotText(view), norms, textPivots),
            };
            return { keep: await takeTurns(view, pivots, kept) };
          },
          dispose() {},
        };
      },
    };
  },
};

/** Rows of the sequence, each from the largest norm. */
interface Pivots {
  readonly visual: Int32Array;
  readonly text: Int32Array;
}

/** L1 norm of each row's key in the block that ran last, [S]. Repeating keys for grouped heads would multiply all of them by one number. */
async function keyNorms(view: DecoderView): Promise<Float32Array> {
  const norms = tf.tidy(() => tf.sum(tf.abs(view.keys(view.block - 1)), 1));
  try {
    const values = (await norms.data()) as Float32Array;
    checkScores(values);
    return values;
  } finally {
    norms.dispose();
  }
}

function pivotText(view: DecoderView): Int32Array {
  const behind = textRows(view, true);
  return behind.length > 0 ? behind : textRows(view, false);
}

/** Of these rows, those with the largest norms, the largest first. */
function largest(rows: Int32Array, norms: Float32Array, count: number): Int32Array {
  const order = descendingOrder(Float32Array.from(rows, (row) => norms[row] as number));
  return order.subarray(0, count).map((index) => rows[index] as number);
}

async function takeTurns(view: DecoderView, { visual, text }: Pivots, kept: number): Promise<Int32Array> {
  const pivots = Int32Array.of(...visual, ...text);
  const cosines = tf.tidy(() => {
    const states = view.normed();
    const unit = (rows: Int32Array) => {
      const some = tf.gather(states, tf.tensor1d(rows, 'int32'));
      return tf.div<tf.Tensor2D>(some, tf.maximum(tf.norm(some, 2, 1, true), 1e-8));
    };
    return tf.matMul(unit(pivots), unit(view.visualRows), false, true); // [pivots, n]
  });
  try {
    const values = (await cosines.data()) as Float32Array;
    checkScores(values);
    const n = view.visualRows.length;
    const places = new Map(Array.from(view.visualRows, (row, index) => [row, index]));
    const chosen = Array.from(visual, (row) => places.get(row) as number);
    return leastAlike(
      Array.from(pivots.keys(), (p) => values.subarray(p * n, (p + 1) * n)),
      chosen,
      kept,
    );
  } finally {
    cosines.dispose();
  }
}

/**
 * @param likeness for each pivot in turn, of each visual token, [n]
 * @param chosen visual tokens that stay already: the visual pivots
 * @returns `kept` tokens, ascending
 */
export function leastAlike(likeness: readonly Float32Array[], chosen: readonly number[], kept: number): Int32Array {
  const taken = new Set(chosen);
  const wanted = kept - chosen.length;
  for (const [p, row] of likeness.entries()) {
    const share = Math.floor(wanted / likeness.length) + (p < wanted % likeness.length ? 1 : 0);
    const order = descendingOrder(row.map((value) => -value)).filter((token) => !taken.has(token));
    for (const token of order.subarray(0, share)) taken.add(token);
  }
  return Int32Array.from(taken).sort();
}
