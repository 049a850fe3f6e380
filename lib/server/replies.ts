import type { Answer } from '../answer';
import type { TextLogprobs, TextToken } from '../text_logprobs';
import type { Piece } from './answerer';

/** What all objects of one completion have in common. */
export interface CompletionHead {
  readonly id: string;
  /** Unix time in seconds. */
  readonly created: number;
  readonly model: string;
}

/** `chat.completion` of OpenAI's interface, with our member. */
export function wholeReply(head: CompletionHead, answer: Answer): object {
  const message = { role: 'assistant', content: answer.text, refusal: null };
  return {
    ...head,
    object: 'chat.completion',
    choices: [{ index: 0, message, logprobs: logprobsOf(answer.logprobs), finish_reason: answer.finishReason }],
    usage: usageOf(answer),
    vispruner: details(answer),
  };
}

/** `chat.completion.chunk`s of OpenAI's interface, as server-sent events. */
export class ChunkWriter {
  /** @param includeUsage an extra chunk with the usage at the end, which all others announce by `usage: null` */
  constructor(
    private readonly head: CompletionHead,
    private readonly includeUsage: boolean,
  ) {}

  first(): string {
    return this.chunk({ role: 'assistant', content: '', refusal: null }, null);
  }

  piece({ text, logprobs }: Piece): string {
    return this.chunk({ content: text }, null, logprobsOf(logprobs.length > 0 ? logprobs : undefined));
  }

  last(answer: Answer): string {
    const usage = this.includeUsage ? this.event({ choices: [], usage: usageOf(answer) }) : '';
    return `${this.chunk({}, answer.finishReason, null, { vispruner: details(answer) })}${usage}data: [DONE]\n\n`;
  }

  private chunk(delta: object, finishReason: string | null, logprobs: object | null = null, more: object = {}): string {
    const usage = this.includeUsage ? { usage: null } : {};
    return this.event({ choices: [{ index: 0, delta, logprobs, finish_reason: finishReason }], ...usage, ...more });
  }

  private event(rest: object): string {
    return serverSentEvent({ ...this.head, object: 'chat.completion.chunk', ...rest });
  }
}

export function serverSentEvent(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

function usageOf({ usage }: Answer): object {
  const { promptTokens, cachedTokens, newTokens } = usage;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: newTokens,
    total_tokens: promptTokens + newTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}

function logprobsOf(tokens: readonly TextLogprobs[] | undefined): object | null {
  if (!tokens) return null;
  const plain = ({ token, logprob, bytes }: TextToken) => ({ token, logprob, bytes });
  return { content: tokens.map((token) => ({ ...plain(token), top_logprobs: token.top.map(plain) })), refusal: null };
}

function details({ visual, usage, timing, choices }: Answer): object {
  const ranked = choices && { choices: choices.map(({ text, logprob, meanLogprob, probability }) => ({ text, logprob, meanLogprob, probability })) };
  return { visual: visual.map((crop) => ({ ...crop, kept: Array.from(crop.kept) })), ...ranked, usage, timing };
}
