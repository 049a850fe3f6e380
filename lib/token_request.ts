import type * as tf from '@tensorflow/tfjs';
import { PromptError, StateError } from '../layers/errors';
import type { Tap } from '../layers/tap';
import type { OptionNames } from '../weights/option_names';
import { disposeEncoded, type EncodedImage, type KeptPatches } from './encoded';
import { type Generated, type Timing, TOKEN_OPTIONS, type TokenOptions, type Usage } from './generate';
import type { PreparedImage } from './image/types';
import type { PromptCache } from './prompt_cache';
import type { PruneOptions } from './prune/registry';
import type { Pruner } from './prune/types';
import type { ContinuationScore } from './score';

/** A method's options, or a pruner of one's own. Left out, all visual tokens are kept. */
export type Prune = PruneOptions | Pruner;

/** Images behind the encoder: several questions and pruners can share them. Dispose them when done. */
export class EncodedImages {
  private held: readonly EncodedImage[] | undefined;

  constructor(images: readonly EncodedImage[]) {
    this.held = images;
  }

  /** @throws StateError `DISPOSED` */
  get images(): readonly EncodedImage[] {
    if (!this.held) throw new StateError('DISPOSED', 'These encoded images were disposed; encode them again.');
    return this.held;
  }

  dispose(): void {
    if (this.held) disposeEncoded(this.held);
    this.held = undefined;
  }
}

/** Token ids and the images that they speak of: one image token an image, or one a visual token. */
export interface TokenRequest {
  readonly inputIds: Int32Array | readonly number[];
  readonly images?: readonly PreparedImage[] | EncodedImages;
  /** The user's text, for pruners that read it with a text encoder of their own (`RequestView.question`). */
  readonly question?: string;
  /** Goes on from what an earlier call left in it, as far as the prompts are the same, and keeps what this call adds. */
  readonly cache?: PromptCache;
}

export interface RunOptions {
  readonly prune?: Prune;
  readonly tap?: Tap;
  readonly signal?: AbortSignal;
}

export interface GenerateOptions extends RunOptions, TokenOptions {}

export const RUN_OPTIONS: OptionNames<RunOptions> = { prune: true, tap: true, signal: true };

export const GENERATE_OPTIONS: OptionNames<GenerateOptions> = { ...RUN_OPTIONS, ...TOKEN_OPTIONS };

export interface ForwardResult {
  /** Every row that is left after the last block, [S, vocabulary], without those that a cache held. The caller disposes it. */
  readonly logits: tf.Tensor2D;
  readonly visual: readonly KeptPatches[];
  /** Visual tokens that entered each decoder block. */
  readonly enteringTokens: readonly number[];
}

export interface GenerateResult extends Generated {
  readonly timing: Timing;
}

export interface ScoreResult {
  /** In the order in which the continuations were given. */
  readonly scores: readonly ContinuationScore[];
  readonly visual: readonly KeptPatches[];
  /** `newTokens` counts those of all continuations. */
  readonly usage: Usage;
  readonly timing: Timing;
}

/** @throws PromptError `BAD_TOKEN_ID` */
export function checkedIds(ids: TokenRequest['inputIds'], vocabulary: number): Int32Array {
  if (!Array.isArray(ids) && !ArrayBuffer.isView(ids)) {
    throw new PromptError('BAD_TOKEN_ID', `inputIds is ${String(ids)}; give an array or an Int32Array of token ids.`);
  }
  for (const [i, id] of ids.entries()) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabulary) {
      throw new PromptError(
        'BAD_TOKEN_ID',
        `inputIds[${i}] is ${id}; the vocabulary has whole ids from 0 to ${vocabulary - 1}. Use the tokenizer of this model.`,
      );
    }
  }
  return Int32Array.from(ids);
}

/** @throws PromptError `CACHE_SHARED` */
export function checkCaches(requests: readonly TokenRequest[]): void {
  const caches = requests.flatMap(({ cache }) => (cache ? [cache] : []));
  if (new Set(caches).size < caches.length) {
    throw new PromptError(
      'CACHE_SHARED',
      'Two requests of one batch have the same PromptCache, which holds one conversation. Give each its own (fork()).',
    );
  }
}
