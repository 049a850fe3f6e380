import * as tf from '@tensorflow/tfjs';
import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, type TokenCount, tokenCount, wholeTokens } from './budget';
import { checkScores, wholeNumber } from './checks';
import { classBlock } from './encoder_attention';
import type { Method } from './method';
import { PruMergeChooser } from './prumerge_choice';
import { cosineSimilarity } from './similarity';
import type { EncoderFacts, Pruner, Selection, VisionView } from './types';
import { weightedSums } from './weighted_sums';

/** Without a budget the image decides how many tokens there are, as in the paper. `neighbours`: patches merged into each kept one; default 32. */
type PruMergeBudget = (Budget | { readonly tokens?: undefined; readonly keepRatio?: undefined }) & { readonly neighbours?: number };

export type PruMergeOptions = { readonly method: 'prumerge' } & PruMergeBudget;
export type PruMergePlusOptions = { readonly method: 'prumerge-plus' } & PruMergeBudget;

const READS = "the class token's query and all keys of the encoder's last block, over the full width as one head";
const SOURCE = 'Shang et al., ICCV 2025, [arXiv 2403.15388](https://arxiv.org/abs/2403.15388); 42Shawn/LLaVA-PruMerge @ 097c041';
const DIFFERENCES: readonly string[] = [
  'Quartiles are of each crop by itself; the released code takes them over a flattened batch.',
  'T = N keeps all patches as they are.',
  'Of equal attention or similarity, the lower patch index comes first.',
  'The released checkpoint is fine-tuned with LoRA for this method; no such weights are assumed.',
];

/** PruMerge: the patches whose attention is an outlier, each with its neighbours merged in, and one token of all that is left. */
export const pruMergeMethod: Method<PruMergeOptions> = {
  options: [...BUDGET_OPTIONS, 'neighbours'],
  about: {
    title: 'PruMerge',
    acts: 'between encoder and projector, each crop by itself; merges',
    reads: READS,
    entering: 'T; without a budget n + 1, by the n outliers of attention in the image',
    source: SOURCE,
    grade: 'exact',
    differences: [
      ...DIFFERENCES,
      'Fixed budgets are ours: the T - 1 patches of highest attention, and the token of all others. No outlier leaves that token alone; the released code divides by zero.',
    ],
  },
  example: { method: 'prumerge', tokens: 32 },
  forAverage: (average) => ({ method: 'prumerge', tokens: wholeTokens(average) }),
  create: (options) => pruMerge(options, false),
};

/** PruMerge+: the same with a regular grid of patches besides. */
export const pruMergePlusMethod: Method<PruMergePlusOptions> = {
  options: [...BUDGET_OPTIONS, 'neighbours'],
  about: {
    title: 'PruMerge+',
    acts: 'between encoder and projector, each crop by itself; merges',
    reads: READS,
    entering: 'T; without a budget n + 1 and the places of a grid of stride floor(floor(N / n) / 3), by the n outliers of attention in the image',
    source: `${SOURCE}, its usual forward pass`,
    grade: 'exact',
    differences: [
      ...DIFFERENCES,
      "Fixed budgets are ours: a grid of stride round(1.25 N / T), which is that of the published sets for 64, 128 and 256 of 576 (11, 6 and 3), and as many patches of highest attention as make T with the token of all others. A grid that alone would have more than 5 T / 6 places is widened. The port's own sets (13, 40 and 95 patches beside the grid) come to about 65, 130 and 256 tokens, by how many places coincide.",
      'A stride below 1 is 1, and no outliers count as one for the stride: the released code fails there. Its training sets (72 patches of highest attention and every 8th) are left out.',
    ],
  },
  example: { method: 'prumerge-plus', tokens: 64 },
  forAverage: (average) => ({ method: 'prumerge-plus', tokens: wholeTokens(average) }),
  create: (options) => pruMerge(options, true),
};

function pruMerge({ method, tokens, keepRatio, neighbours }: PruMergeOptions | PruMergePlusOptions, plus: boolean): Pruner {
  const near = neighbours === undefined ? 32 : wholeNumber(neighbours, 'neighbours', 'METHOD_OPTION_INVALID', 1);
  const adaptive = tokens === undefined && keepRatio === undefined;
  const count: TokenCount | undefined = adaptive ? undefined : tokenCount({ tokens, keepRatio });
  const pruner = beforeDecoder({
    name: method,
    count: count ?? ((patches) => patches),
    needs: (encoder) => ({ attention: [], projections: [classBlock(encoder, encoder.blocks - 1)] }),
    select: (view, fixed, encoder) => merge(view, encoder, { plus, neighbours: near, ...(adaptive ? {} : { tokens: fixed }) }),
  });
  return adaptive ? { ...pruner, enteringTokens: () => undefined } : pruner;
}

interface Plan {
  readonly plus: boolean;
  readonly neighbours: number;
  readonly tokens?: number;
}

async function merge(view: VisionView, { blocks }: EncoderFacts, { plus, neighbours, tokens }: Plan): Promise<Selection> {
  const { features, pause } = view;
  const size = features.shape[0];
  if (tokens === size) return { kept: Int32Array.from({ length: size }, (_, patch) => patch) };
  const { attention, similarity } = await measured(view, blocks - 1);
  checkScores(attention);
  const chooser = new PruMergeChooser(attention, similarity);
  const chosen = tokens === undefined ? chooser.adaptive(plus) : chooser.fixed(tokens, plus);
  const sums = await chooser.sums(chosen, neighbours, pause);
  return {
    kept: chosen.slice().sort(),
    merged: { tokens: await weightedSums(features, sums, pause), space: 'features', members: chooser.members(chosen, sums) },
  };
}

/** Attention of the class token to the N patches, by one head of full width, and cosines of the keys [N, N], in one transfer. */
async function measured(view: VisionView, block: number): Promise<{ readonly attention: Float32Array; readonly similarity: Float32Array }> {
  const { queries, keys } = view.projections(block);
  const [rows, width] = keys.shape;
  const owned: tf.Tensor[] = [];
  try {
    const { attention, patchKeys } = tf.tidy(() => {
      const query = tf.mul(tf.slice(queries, [0, 0], [1, -1]), 1 / Math.sqrt(width));
      const probabilities = tf.softmax(tf.matMul(query, tf.transpose(keys))); // [1, 1 + N]
      return {
        attention: tf.slice(probabilities, [0, 1], [-1, -1]) as tf.Tensor2D,
        patchKeys: tf.slice(keys, [1, 0], [rows - 1, -1]) as tf.Tensor2D,
      };
    });
    owned.push(attention, patchKeys);
    const similarity = await cosineSimilarity(patchKeys, view.pause);
    owned.push(similarity);
    const packed = tf.concat([attention, similarity], 0);
    owned.push(packed);
    const values = (await packed.data()) as Float32Array;
    return { attention: values.subarray(0, rows - 1), similarity: values.subarray(rows - 1) };
  } finally {
    tf.dispose(owned);
  }
}
