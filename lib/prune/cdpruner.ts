import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { finish, type Pause, paced } from '../pacer';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { checkPositions, show } from './checks';
import { determinantalSteps } from './determinantal';
import type { Method } from './method';
import { cosineSimilarity, unitRows } from './similarity';
import type { RequestView, VisionView } from './types';

/** What CDPruner asks of a CLIP; `loadClip` makes one. */
export interface RelevanceEncoder {
  readonly name: string;
  /** Encoder features [N, C] -> [N, E], in the space that text is in; the caller disposes it. */
  embedPatches(features: tf.Tensor2D): tf.Tensor2D;
  /** -> [pieces, E]; the caller disposes it. */
  embedText(text: string, pause: Pause): Promise<tf.Tensor2D>;
}

export type CdPrunerOptions = {
  readonly method: 'cdpruner';
  /** The CLIP that the encoder comes from, with its text half. Without one, relevance is taken in the decoder's space: see `cdPrunerMethod`. */
  readonly clip?: RelevanceEncoder;
  /** How far relevance goes before diversity: from 0 to less than 1; default off, which is the relevance as it is. */
  readonly theta?: number;
  /** Of the kept tokens; default `compact`, as in the released code. */
  readonly positions?: 'compact' | 'keep';
} & Budget;

export interface ConditionalOptions {
  /** Tokens to keep: whole, from 1 to N. */
  readonly tokens: number;
  readonly theta?: number;
}

/**
 * The choice of CDPruner (Zhang et al. 2025, https://arxiv.org/abs/2506.10967) without tensors: the most probable subset of a determinantal point process
 * whose kernel weighs the tokens' similarities by their relevance to the question, scaled to 0 to 1.
 *
 * @param similarity [N, N], row-major: cosines of the projected tokens
 * @param relevance [N], higher is more relevant; all equal is diversity alone
 * @returns kept tokens, ascending
 * @throws PruneError `TOKENS_INVALID`, `METHOD_OPTION_INVALID`; `FEATURE_SHAPE`, `FEATURES_NOT_FINITE`, `ATTENTION_NOT_FINITE`
 */
export function selectConditional(similarity: Float32Array, relevance: Float32Array, { tokens, theta }: ConditionalOptions): Int32Array {
  return finish(determinantalSteps(similarity, relevance.length, qualities(relevance, checkedTheta(theta)), tokens)).sort();
}

/** Relevance scaled by its range, as the released code has it: what is added to keep the least relevant above 0 is in the numerator alone. */
function qualities(relevance: Float32Array, theta: number | undefined): Float64Array {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of relevance) [least, most] = [Math.min(least, value), Math.max(most, value)];
  const scaled = Float64Array.from(relevance, (value) => (most === least ? 1 : (value - least + 1e-6) / (most - least)));
  if (theta === undefined) return scaled;
  const power = theta / (2 * (1 - theta));
  return scaled.map((value) => Math.exp(power * value));
}

function checkedTheta(theta: unknown): number | undefined {
  if (theta === undefined) return undefined;
  if (typeof theta === 'number' && theta >= 0 && theta < 1) return theta;
  throw new PruneError('METHOD_OPTION_INVALID', `Option "theta" is ${show(theta)}. Give a number from 0 to less than 1, or leave it out.`);
}

/** By CLIP: how little each patch's embedding resembles the question's, -cosine, averaged over the pieces of a long text. */
class ClipRelevance {
  private text: tf.Tensor2D | undefined;

  constructor(
    private readonly clip: RelevanceEncoder,
    private readonly question: string,
  ) {}

  /** [N, 1]; the caller disposes it. */
  async of({ features, pause }: VisionView): Promise<tf.Tensor2D> {
    this.text ??= await this.clip.embedText(this.question, pause); // once for all crops
    const patches = this.clip.embedPatches(features);
    try {
      const cosines = await cosineSimilarity(patches, pause, this.text); // [N, pieces]
      const relevance = tf.tidy(() => tf.neg(tf.mean(cosines, 1, true)) as tf.Tensor2D);
      cosines.dispose();
      return relevance;
    } finally {
      patches.dispose();
    }
  }

  dispose(): void {
    this.text?.dispose();
  }
}

/** In the decoder's space, by the same formula: -cosine of each projected token with the prompt's embeddings, averaged over them. -> [N, 1] */
async function embeddingRelevance(view: VisionView): Promise<tf.Tensor2D> {
  if (view.textIds.length === 0) return tf.zeros([view.features.shape[0], 1]);
  const [tokens, text] = [await view.projected(), await view.textEmbeddings()];
  return tf.tidy(() => tf.neg(tf.matMul<tf.Tensor2D>(unitRows(tokens), tf.reshape(tf.mean(unitRows(text), 0), [-1, 1]))));
}

export const cdPrunerMethod: Method<CdPrunerOptions> = {
  options: [...BUDGET_OPTIONS, 'clip', 'theta', 'positions'],
  about: {
    title: 'CDPruner',
    acts: 'between projector and decoder, each crop by itself',
    reads:
      'cosine similarity of the projected tokens; relevance to the question: with `clip` (a second checkpoint, `loadClip`) by its text encoder, else by projected tokens against the embeddings of the prompt',
    entering: 'T',
    source:
      'Zhang et al., [arXiv 2506.10967](https://arxiv.org/abs/2506.10967); Theia-4869/CDPruner @ 9541616c; greedy search of Chen et al., [arXiv 1709.05135](https://arxiv.org/abs/1709.05135)',
    grade: 'exact',
    differences: [
      'Exact with `clip`. LLaVA checkpoints have no text encoder: without `clip`, relevance is the same formula (minus the mean cosine) of a projected token and the embeddings of all text of the prompt, template included. That is ours.',
      'Relevance is scaled by the range within a crop; the released code takes the range over all crops of a call.',
      'Equal relevance everywhere counts as 1 (diversity alone); the released code divides by zero.',
      'The Cholesky rows are float64 (there float32). When the chosen tokens span all others, the rest is taken by what rounding leaves, the lower index first; there roots of negative numbers may arise.',
      'Of equal volume the lower index is chosen.',
    ],
  },
  example: { method: 'cdpruner', tokens: 64 },
  forAverage: (average) => ({ method: 'cdpruner', tokens: wholeTokens(average) }),
  create({ tokens, keepRatio, clip, theta, positions = 'compact' }) {
    checkedTheta(theta);
    checkClip(clip);
    const count = tokenCount({ tokens, keepRatio });
    return {
      name: 'cdpruner',
      textDependent: true,
      positions: checkPositions(positions),
      selectionPositions: positions,
      key: JSON.stringify({ method: 'cdpruner', tokens, keepRatio, clip: clip?.name, theta, positions }),
      needs: () => ({ attention: [] }),
      enteringTokens: (patches, decoderBlocks) => new Array<number>(decoderBlocks).fill(count(patches)),
      begin(request) {
        for (const patches of request.patchesPerCrop) count(patches);
        const relevance = clip ? new ClipRelevance(clip, questionOf(request)) : undefined;
        return {
          select: async (view) => {
            const kept = count(view.grid.rows * view.grid.columns);
            return { kept: await choose(view, { tokens: kept, theta }, relevance) };
          },
          dispose: () => relevance?.dispose(),
        };
      },
    };
  },
};

async function choose(view: VisionView, options: ConditionalOptions, clip: ClipRelevance | undefined): Promise<Int32Array> {
  const similarity = await cosineSimilarity(await view.projected(), view.pause);
  let [relevance, packed]: (tf.Tensor | undefined)[] = [];
  try {
    relevance = clip ? await clip.of(view) : await embeddingRelevance(view);
    packed = tf.tidy(() => tf.concat([tf.reshape(similarity, [-1]), tf.reshape(relevance as tf.Tensor, [-1])])); // one transfer
    const values = (await packed.data()) as Float32Array;
    const size = similarity.shape[0];
    const quality = qualities(values.subarray(size * size), options.theta);
    return (await paced(determinantalSteps(values.subarray(0, size * size), size, quality, options.tokens), view.pause)).sort();
  } finally {
    tf.dispose([similarity, relevance, packed].filter((tensor) => tensor !== undefined));
  }
}

/** @throws PruneError `QUESTION_UNKNOWN` */
function questionOf({ question }: RequestView): string {
  if (question !== undefined) return question;
  throw new PruneError(
    'QUESTION_UNKNOWN',
    'Method "cdpruner" with "clip" reads the question as text, and this call has its ids alone. Use ask or stream, or leave "clip" out.',
  );
}

/** @throws PruneError `CLIP_INVALID` */
function checkClip(clip: unknown): void {
  if (clip === undefined || (typeof clip === 'object' && clip !== null && 'embedText' in clip && 'embedPatches' in clip)) return;
  throw new PruneError('CLIP_INVALID', `Option "clip" is ${show(clip)}. Give what loadClip returns for the checkpoint, or leave it out.`);
}
