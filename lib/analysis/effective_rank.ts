import * as tf from '@tensorflow/tfjs';
import { SingularValueDecomposition } from 'ml-matrix';
import { PruneError } from '../../layers/errors';
import type { VisionLanguageModel } from '../model';
import { createPruner } from '../prune/registry';
import type { Pruner } from '../prune/types';
import type { Prune } from '../token_request';
import { type AnalysedPicture, type AnalysisOptions, forEachPicture } from './pictures';

/** One method of a comparison. */
export interface RankedMethod {
  readonly name: string;
  /** Options, or a pruner, for the picture with that number; random methods take another seed for each. */
  readonly prune: (picture: number) => Prune;
}

export interface RankOptions extends AnalysisOptions {
  readonly methods: readonly RankedMethod[];
}

/** Effective ranks of what a method lets into the decoder, a sample a picture (for a method that reads the question, a question). */
export interface KeptRank {
  readonly name: string;
  /** Visual tokens that enter the first block, and their effective rank: means over samples. */
  readonly tokens: number;
  readonly rank: number;
  /** Standard deviation of the rank over samples. */
  readonly deviation: number;
}

/**
 * Effective rank (Roy & Vetterli, EUSIPCO 2007): e to the entropy of the singular values, taken as shares of their sum. k orthogonal rows of one length have
 * rank k, k times the same row has 1, a matrix of zeros 0.
 *
 * @param rows [count, width], row-major
 * @throws PruneError `FEATURES_NOT_FINITE`, `FEATURE_SHAPE`
 */
export function effectiveRank(rows: Float32Array, width: number): number {
  const count = rows.length / width;
  if (!Number.isInteger(count) || count === 0) {
    throw new PruneError(
      'FEATURE_SHAPE',
      `${rows.length} numbers are not rows of ${width}. Give the rows of a matrix, one after another, and their width.`,
    );
  }
  const bad = rows.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw new PruneError(
      'FEATURES_NOT_FINITE',
      `Feature ${bad % width} of row ${Math.floor(bad / width)} is ${rows[bad]}. Look for NaN or overflow in the weights or the image.`,
    );
  const matrix = Array.from({ length: count }, (_, row) => Array.from(rows.subarray(row * width, (row + 1) * width)));
  const singular = new SingularValueDecomposition(matrix, {
    computeLeftSingularVectors: false,
    computeRightSingularVectors: false,
    autoTranspose: true,
  }).diagonal;
  const sum = singular.reduce((total, value) => total + value, 0);
  if (sum === 0) return 0;
  return Math.exp(singular.reduce((entropy, value) => (value > 0 ? entropy - (value / sum) * Math.log(value / sum) : entropy), 0));
}

/**
 * Effective rank of what methods keep: how many directions the visual tokens span that enter the decoder, as AgilePruner (ICLR 2026) compares methods by
 * it; its text, as far as we know it, does not say where it takes the tokens from. Here they are behind the projector, as they enter the first block, those
 * that were merged among them; neither centred nor scaled to one length. What a method drops before a later block counts: see its `tokens`.
 *
 * @throws PromptError `NOTHING_ANALYSED`, `TOKENS_DIFFER`; PruneError for a method's options; the signal's reason
 *
 * @example
 * await keptRanks(model, scenePictures(20), {
 *   methods: [{ name: 'vispruner', prune: () => ({ method: 'vispruner', tokens: 28 }) }, { name: 'random', prune: (seed) => ({ method: 'random', tokens: 28, seed }) }],
 * });
 */
export async function keptRanks(model: VisionLanguageModel, pictures: Iterable<AnalysedPicture>, options: RankOptions): Promise<KeptRank[]> {
  const { methods, signal, progress } = options;
  const found = methods.map(({ name }) => ({ name, tokens: [] as number[], ranks: [] as number[] }));
  const inEncoder = (pruner: Pruner) => pruner.needs(model.layers.encoder).encoder !== undefined;
  const shared = methods.map((method) => createPruner(method.prune(0))).filter((pruner) => !inEncoder(pruner)); // they need the same for every picture
  await forEachPicture(model, pictures, { signal, progress, prune: shared }, async ({ index, images, prepared, questions }) => {
    for (const [i, method] of methods.entries()) {
      const pruner = createPruner(method.prune(index));
      const asked = pruner.textDependent ? questions : questions.slice(0, 1);
      for (const { inputIds } of asked) {
        let tokens: EnteringTokens | undefined;
        const watched = watching(pruner, (entering) => {
          tokens = entering;
        });
        const { logits } = await model.forward({ inputIds, images: inEncoder(pruner) ? prepared : images }, { prune: watched, signal });
        logits.dispose();
        const { rows, width } = tokens as EnteringTokens;
        found[i]?.tokens.push(rows.length / width);
        found[i]?.ranks.push(effectiveRank(rows, width));
      }
    }
  });
  return found.map(({ name, tokens, ranks }) => {
    const rank = mean(ranks);
    return { name, tokens: mean(tokens), rank, deviation: Math.sqrt(mean(ranks.map((value) => (value - rank) ** 2))) };
  });
}

interface EnteringTokens {
  /** [count, width] */
  readonly rows: Float32Array;
  readonly width: number;
}

/** The pruner as far as the first block, which shows what enters that. Later blocks get all of it: nobody reads what comes out. */
function watching(pruner: Pruner, see: (tokens: EnteringTokens) => void): Pruner {
  return {
    ...pruner,
    begin(request) {
      const run = pruner.begin(request);
      const select = run.select?.bind(run);
      return {
        ...(select ? { select } : {}),
        async beforeBlock(view) {
          if (view.block > 0) return undefined;
          const reduction = await run.beforeBlock?.(view);
          const entering = tf.tidy(() => {
            const kept = reduction ? reduction.keep.map((index) => view.visualRows[index] as number) : view.visualRows;
            const rows = tf.gather(view.states, tf.tensor1d(kept, 'int32'));
            return reduction?.merged ? tf.concat([rows, reduction.merged.states], 0) : rows;
          });
          see({ rows: (await entering.data().finally(() => entering.dispose())) as Float32Array, width: entering.shape[1] });
          return reduction;
        },
        dispose: () => run.dispose(),
      };
    },
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
