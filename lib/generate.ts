import type * as tf from '@tensorflow/tfjs';
import { PromptError } from '../layers/errors';
import type { Tap } from '../layers/tap';
import type { OptionNames } from '../weights/option_names';
import { decodeStep } from './decoder';
import { DRAW_OPTIONS, type DrawnToken, type DrawOptions, type TokenDraw } from './draw';
import { type KeptPatches, patchesIn } from './encoded';
import type { EncodedRequest, Llava, Prefilled } from './llava';
import type { TokenLogprobs } from './logprobs';
import type { Pacer } from './pacer';
import { tokensOf } from './prompt_cache';
import type { Pruner } from './prune/types';

export interface TokenOptions extends DrawOptions {
  /** Tokens to write at most; whole, at least 1. Default: what `generation_config.json` says, else 256, but never past the context. */
  readonly maxNewTokens?: number;
}

export const TOKEN_OPTIONS: OptionNames<TokenOptions> = { ...DRAW_OPTIONS, maxNewTokens: true };

export type FinishReason = 'stop' | 'length';

/** Counts of one request. */
export interface Usage {
  /** Text tokens and visual tokens that entered the decoder. */
  readonly promptTokens: number;
  /** Of these, the tokens that a `PromptCache` held: they were not computed again. */
  readonly cachedTokens: number;
  readonly visualTokens: number;
  /** Visual tokens that the images have unpruned. */
  readonly visualTokensBefore: number;
  readonly newTokens: number;
  /** Visual tokens that entered each decoder block. */
  readonly enteringTokens: readonly number[];
}

/** Milliseconds of one call. */
export interface Timing {
  /** Decoding and preparing images; 0 when they came prepared. */
  readonly prepare: number;
  readonly encode: number;
  readonly select: number;
  readonly prefill: number;
  /** From the call to the first token. */
  readonly firstToken: number;
  /** All tokens after the first. */
  readonly decode: number;
  readonly total: number;
}

export interface Generated {
  /** Without the end-of-sequence token. */
  readonly ids: Int32Array;
  /** One for each of `ids`, where they were asked for. */
  readonly logprobs?: readonly TokenLogprobs[];
  readonly finishReason: FinishReason;
  readonly visual: readonly KeptPatches[];
  readonly usage: Usage;
}

export interface GenerateContext {
  readonly pruner: Pruner;
  readonly pacer: Pacer;
  readonly tap?: Tap;
  readonly endIds: ReadonlySet<number>;
  /** Tokens that each request may write at most. */
  readonly limits: readonly number[];
  /** One a request. */
  readonly draws: readonly TokenDraw[];
}

/** A token, and which request of the batch it belongs to. */
export interface StreamedToken extends DrawnToken {
  readonly request: number;
}

/** One token of one request, as it is drawn. The consumer answers `true` to end that request (a stop string). */
export type TokenStream = AsyncGenerator<StreamedToken, GeneratedAll, boolean | undefined>;

export interface GeneratedAll {
  readonly results: readonly Generated[];
  readonly timing: { readonly select: number; readonly prefill: number };
}

/** Decodes several requests together: each weight is read once a step for all of them. Leaving early frees everything. */
export async function* generateTokens(llava: Llava, requests: readonly EncodedRequest[], context: GenerateContext): TokenStream {
  const ids: number[][] = requests.map(() => []);
  const logprobs: TokenLogprobs[][] = requests.map(() => []);
  const reasons: FinishReason[] = requests.map(() => 'length');
  const { result, prompts, timing } = await llava.prefill(requests, { ...context, lastRows: true });
  let active = requests.map((_, i) => i);
  let states = result.states; // [B, D]
  try {
    for (let step = 0; active.length > 0; step++) {
      const rows = await logitRows(llava, states, context.tap);
      const going: number[] = [];
      for (const [row, request] of active.entries()) {
        const written = ids[request] as number[];
        const token = (context.draws[request] as TokenDraw).next(rows[row] as Float32Array, written);
        if (context.endIds.has(token.id)) {
          reasons[request] = 'stop';
          continue;
        }
        written.push(token.id);
        if (token.logprobs) logprobs[request]?.push(token.logprobs);
        const stopped = yield { request, ...token };
        if (stopped) reasons[request] = 'stop';
        else if (step + 1 < (context.limits[request] as number)) going.push(request);
      }
      active = going;
      if (active.length === 0) break;
      const last = Int32Array.from(active, (request) => ids[request]?.at(-1) as number);
      const embeddings = llava.language.embed(last);
      try {
        const next = await decodeStep(
          llava.language,
          embeddings,
          active.map((request) => (prompts[request] as Prefilled).sequence),
          context,
        );
        states.dispose();
        states = next;
      } finally {
        embeddings.dispose();
      }
    }
    const results = requests.map((request, i) => {
      const prompt = prompts[i] as Prefilled;
      return {
        ids: Int32Array.from(ids[i] as number[]),
        ...(context.draws[i]?.givesLogprobs ? { logprobs: logprobs[i] } : {}),
        finishReason: reasons[i] as FinishReason,
        visual: prompt.visual,
        usage: usageOf(llava, request, prompt, result.enteringTokens[i] as readonly number[], ids[i]?.length as number),
      };
    });
    return { results, timing };
  } finally {
    states.dispose();
    for (const [i, prompt] of prompts.entries()) prompt.release(ids[i]);
  }
}

/** `entering`: patches that entered each block in this call. */
export function usageOf(llava: Llava, { images }: EncodedRequest, prompt: Prefilled, entering: readonly number[], newTokens: number): Usage {
  const { visual, textTokens, cached } = prompt;
  const visualTokens = tokensOf(visual);
  const others = visualTokens - patchesIn(visual) + cached.patches; // class tokens, and patches that entered in an earlier call
  return {
    promptTokens: textTokens + visualTokens,
    cachedTokens: cached.tokens,
    visualTokens,
    visualTokensBefore: images.reduce((sum, { grid, crops }) => sum + crops.length * llava.tokensPerCrop(grid), 0),
    newTokens,
    enteringTokens: entering.map((patches) => patches + others),
  };
}

async function logitRows(llava: Llava, states: tf.Tensor2D, tap?: Tap): Promise<Float32Array[]> {
  const logits = llava.language.logits(states, tap);
  try {
    const all = (await logits.data()) as Float32Array;
    const width = logits.shape[1];
    return Array.from({ length: logits.shape[0] }, (_, i) => all.subarray(i * width, (i + 1) * width));
  } finally {
    logits.dispose();
  }
}

/**
 * Tokens that may be written after a prompt of `promptTokens`.
 * @throws PromptError `BAD_MAX_NEW_TOKENS`, `CONTEXT_OVERFLOW`; both before any work
 */
export function newTokenLimit(asked: number | undefined, usual: number, promptTokens: number, context: number): number {
  if (asked !== undefined && (!Number.isInteger(asked) || asked < 1)) {
    throw new PromptError('BAD_MAX_NEW_TOKENS', `Option "maxNewTokens" is ${asked}; give a whole number of at least 1.`);
  }
  const room = context - promptTokens;
  if (room < (asked ?? 1)) {
    throw new PromptError(
      'CONTEXT_OVERFLOW',
      `The prompt takes ${promptTokens} tokens (text and visual) and ${asked ?? 1} more are to be written, but the model's context holds ${context}. ` +
        'Shorten the text, give fewer images, keep fewer visual tokens ("prune"), or lower "maxNewTokens".',
    );
  }
  return asked ?? Math.min(usual, room);
}
