import type { TokenBytes } from './chat/token_bytes';
import type { ScoredToken, TokenLogprobs } from './logprobs';

/** A token as text, as OpenAI's clients know it. */
export interface TextToken extends ScoredToken {
  /** U+FFFD stands where the token has only a part of a character's bytes. */
  readonly token: string;
  /** UTF-8; those of several tokens together are whole characters. */
  readonly bytes: readonly number[];
}

/** A token of an answer, and what was likeliest in its place. */
export interface TextLogprobs extends TextToken {
  /** Best first; the written one is among them only if it is one of these. */
  readonly top: readonly TextToken[];
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

export function textLogprobs({ top, ...own }: TokenLogprobs, tokens: TokenBytes): TextLogprobs {
  const withText = (one: ScoredToken): TextToken => {
    const bytes = tokens.of(one.id);
    return { ...one, token: decoder.decode(bytes), bytes: Array.from(bytes) };
  };
  return { ...withText(own), top: top.map(withText) };
}
