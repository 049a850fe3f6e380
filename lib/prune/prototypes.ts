import * as tf from '@tensorflow/tfjs';
import { PruneError } from '../../layers/errors';
import { Pacer, type Pause } from '../pacer';
import { BUDGET_OPTIONS, type Budget, type TokenCount, tokenCount, wholeTokens } from './budget';
import { fraction } from './checks';
import type { Method } from './method';
import { highest } from './ranking';
import { cosineSimilarity } from './similarity';
import type { VisionView } from './types';

/** A codebook: projected tokens [P][D] that were found redundant, as rows of numbers. */
export type Prototypes = readonly ArrayLike<number>[];

/** `threshold`: every token stays whose highest similarity to a prototype is below it, so that the image decides how many. */
export type PrototypesBudget =
  | (Budget & { readonly threshold?: undefined })
  | { readonly threshold: number; readonly tokens?: undefined; readonly keepRatio?: undefined };

export type PrototypesOptions = {
  readonly method: 'prototypes';
  /** Found with `vispruner tune prototypes`; needed unless all tokens are kept. */
  readonly prototypes?: Prototypes;
} & PrototypesBudget;

/** A codebook as it is uploaded; its number tells it from others. */
interface Codebook {
  readonly number: number;
  readonly values: Float32Array;
  readonly width: number;
}

const codebooks = new WeakMap<Prototypes, Codebook>();
let known = 0;

/**
 * Redundancy by a codebook ('Beyond Intermediate States', Yang et al. 2025, https://arxiv.org/abs/2503.20540): a token is the more redundant, the higher
 * its cosine with the most similar prototype.
 *
 * @param tokens [N, D], projected; borrowed
 * @param prototypes [P][D]
 * @param pause awaited between steps of the work; whatever it throws ends it
 * @returns [N], each token's highest cosine with a prototype
 * @throws PruneError `METHOD_OPTION_INVALID` (a codebook that is none, or of another width), `FEATURES_NOT_FINITE`
 */
export async function redundancy(tokens: tf.Tensor2D, prototypes: Prototypes, pause: Pause = new Pacer().pause): Promise<Float32Array> {
  const { values, width } = codebookOf(prototypes);
  if (width !== tokens.shape[1]) {
    throw new PruneError(
      'METHOD_OPTION_INVALID',
      `Option "prototypes" has rows of ${width} numbers, but this model's visual tokens are ${tokens.shape[1]} wide. Find a codebook on this model: vispruner tune prototypes.`,
    );
  }
  const codes = tf.tensor2d(values, [prototypes.length, width]);
  let cosines: tf.Tensor2D | undefined;
  let packed: tf.Tensor | undefined;
  try {
    const found = await cosineSimilarity(tokens, pause, codes); // [N, P]
    cosines = found;
    packed = tf.tidy(() => tf.stack([tf.max(found, 1), tf.sum(found, 1)])); // not every backend hands NaN on in a maximum, all do in a sum
    const both = (await packed.data()) as Float32Array;
    const size = tokens.shape[0];
    const bad = both.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      throw new PruneError(
        'FEATURES_NOT_FINITE',
        `The features of patch ${bad % size} of ${size} hold NaN or infinity. Look for overflow in the encoder's weights.`,
      );
    }
    return both.slice(0, size);
  } finally {
    tf.dispose([codes, cosines, packed].filter((tensor) => tensor !== undefined));
  }
}

async function select(
  view: VisionView,
  prototypes: Prototypes,
  rule: { readonly count: number } | { readonly threshold: number },
): Promise<Int32Array> {
  const scores = (await redundancy(await view.projected(), prototypes, view.pause)).map((score) => -score);
  const count = 'count' in rule ? rule.count : scores.filter((score) => score > -rule.threshold).length;
  return highest(scores, Math.max(1, count));
}

/** @throws PruneError `METHOD_OPTION_INVALID` */
function codebookOf(prototypes: Prototypes): Codebook {
  const before = typeof prototypes === 'object' && prototypes !== null ? codebooks.get(prototypes) : undefined;
  if (before) return before;
  const rows: readonly (ArrayLike<number> | undefined)[] = Array.isArray(prototypes) ? prototypes : [];
  const width = rows[0]?.length ?? 0;
  if (rows.length === 0 || !(width > 0) || rows.some((row) => row?.length !== width)) {
    throw new PruneError(
      'METHOD_OPTION_INVALID',
      'Option "prototypes" is no list of rows of numbers, all as long as the model is wide. Find them with vispruner tune prototypes.',
    );
  }
  const values = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) values.set(row as ArrayLike<number>, i * width);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new PruneError(
      'METHOD_OPTION_INVALID',
      `Option "prototypes" holds ${values[bad]} in row ${Math.floor(bad / width)}. Find the codebook again with vispruner tune prototypes.`,
    );
  }
  known++;
  const codebook = { number: known, values, width };
  codebooks.set(prototypes, codebook);
  return codebook;
}

export const prototypesMethod: Method<PrototypesOptions> = {
  options: ['prototypes', ...BUDGET_OPTIONS, 'threshold'],
  about: {
    title: 'Redundancy prototypes (Beyond Intermediate States)',
    acts: 'between projector and decoder, each crop by itself',
    reads: 'cosine similarity of the projected tokens with a codebook of redundant ones',
    training: 'a codebook, found on a model with `vispruner tune prototypes`',
    entering: 'T; with `threshold`, by the image',
    source: 'Yang et al., [arXiv 2503.20540](https://arxiv.org/abs/2503.20540); DingchenYang99/RedundancyCodebook @ 2a241729',
    grade: 'exact',
    differences: [
      'The codebooks of its authors do not come with it, and belong to their models: one is found on the model at hand. What differs in finding it is said there (`lib/tune/prototypes`).',
      'A fixed number is a count, or a ratio rounded halves up; the released code rounds halves to even. Its thresholds are 0.45 (LLaVA-1.5) and 0.11 (LLaVA-NeXT).',
      'With `threshold`, the least redundant token of a crop stays where none is below it; there all would go.',
      'Of equally redundant tokens the lower index is kept.',
    ],
  },
  example: {
    method: 'prototypes',
    prototypes: [
      [0.5, -1.25],
      [2, 0.75],
    ],
    threshold: 0.45,
  },
  forAverage: (average) => ({ method: 'prototypes', tokens: wholeTokens(average) }),
  create({ prototypes, tokens, keepRatio, threshold }) {
    const limit = thresholdOf({ tokens, keepRatio, threshold });
    const count: TokenCount | undefined = limit === undefined ? tokenCount({ tokens, keepRatio }) : undefined;
    const code = prototypes === undefined ? 'none' : codebookOf(prototypes).number;
    return {
      name: 'prototypes',
      textDependent: false,
      positions: 'compact',
      key: JSON.stringify({ method: 'prototypes', code, tokens, keepRatio, threshold }),
      needs: () => ({ attention: [] }),
      enteringTokens: (patches, decoderBlocks) => count && new Array<number>(decoderBlocks).fill(count(patches)),
      begin({ patchesPerCrop }) {
        const all = patchesPerCrop.every((patches) => count?.(patches) === patches);
        if (!all && prototypes === undefined) {
          throw new PruneError('METHOD_OPTION_INVALID', 'Option "prototypes" is missing. Find a codebook with vispruner tune prototypes.');
        }
        return {
          async select(view) {
            const size = view.features.shape[0];
            if (prototypes === undefined) return { kept: Int32Array.from({ length: size }, (_, i) => i) };
            return { kept: await select(view, prototypes, count ? { count: count(size) } : { threshold: limit as number }) };
          },
          dispose() {},
        };
      },
    };
  },
};

/** @throws PruneError `BUDGET_AMBIGUOUS`, `METHOD_OPTION_INVALID` */
function thresholdOf({ tokens, keepRatio, threshold }: Omit<PrototypesOptions, 'method' | 'prototypes'>): number | undefined {
  if (threshold === undefined) return undefined;
  if (tokens !== undefined || keepRatio !== undefined) {
    throw new PruneError('BUDGET_AMBIGUOUS', '"threshold" is given beside "tokens" or "keepRatio". Give one of them.');
  }
  return fraction(threshold, 'threshold', 'METHOD_OPTION_INVALID', true);
}
