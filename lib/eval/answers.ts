import { PromptError } from '../../layers/errors';
import type { EncodedImage } from '../encoded';
import type { Pacer } from '../pacer';
import { PromptCache } from '../prompt_cache';
import type { Pruner } from '../prune/types';
import type { EncodedImages, GenerateResult, TokenRequest } from '../token_request';
import type { EvaluatedModel } from './evaluated_model';
import { firstTokens, type SharedPrompts, sharesImages } from './first_tokens';

/** Answers to several questions about one image under one condition. */
export interface Answers {
  readonly texts: readonly string[];
  /** Visual tokens that entered each decoder block, by question. */
  readonly entering: readonly (readonly number[])[];
}

export interface AnswerOptions {
  readonly pruner: Pruner;
  readonly maxNewTokens: number;
  readonly pacer: Pacer;
  readonly signal?: AbortSignal;
}

/** Sequences that are decoded together. */
const BATCH = 8;

/**
 * Greedy answers to questions whose prompts begin alike, up to and with the image. What a pruner keeps without reading the question goes through the
 * decoder once for all of them; the sequences are packed.
 */
export async function answersOf(
  model: EvaluatedModel,
  prompts: SharedPrompts,
  images: EncodedImages | undefined,
  { pruner, maxNewTokens, pacer, signal }: AnswerOptions,
): Promise<Answers> {
  const encoded: readonly EncodedImage[] = images?.images ?? [];
  if (maxNewTokens === 1) {
    const { ids, entering } = await firstTokens(model.tokens.layers, prompts, encoded, { pruner, pacer });
    return { texts: Array.from(ids, (id) => model.decode([id])), entering };
  }
  const { start, ends, questions } = prompts;
  const options = { prune: pruner, signal };
  const base = new PromptCache();
  const forks: PromptCache[] = [];
  try {
    const shared = start.length > 0 && ends.length > 1 && sharesImages(model.tokens.layers, encoded, pruner);
    if (shared) await model.tokens.generate({ inputIds: start, images, cache: base }, { ...options, maxNewTokens: 1 });
    const results: GenerateResult[] = [];
    for (let i = 0; i < ends.length; i += BATCH) {
      const requests = ends.slice(i, i + BATCH).map((end, j): TokenRequest => {
        const inputIds = Int32Array.of(...start, ...end);
        const question = questions?.[i + j];
        if (!shared) return { inputIds, images, question };
        const cache = base.fork();
        forks.push(cache);
        return { inputIds, images, question, cache };
      });
      results.push(...(await model.tokens.generateBatch(requests, { ...options, maxNewTokens })));
      for (const fork of forks.splice(0)) fork.dispose();
    }
    return {
      texts: results.map(({ ids }) => model.decode(ids).trim()),
      entering: results.map(({ usage }) => usage.enteringTokens),
    };
  } finally {
    for (const fork of forks) fork.dispose();
    base.dispose();
  }
}

/** @throws PromptError `IMAGE_TOKEN_COUNT` where a prompt has none */
export function checkShared({ start }: SharedPrompts, question: string, imageToken: number): void {
  if (start.length === 0) throw new PromptError('IMAGE_TOKEN_COUNT', `The prompt of "${question}" has no image token (${imageToken}).`);
}
