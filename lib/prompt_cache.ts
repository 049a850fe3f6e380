import type { EncodedImage, KeptPatches, PlacedCrop } from './encoded';
import type { Sequence } from './sequence';

/** An image in a prompt, with what was kept of its crops. */
export interface PlacedImage {
  readonly image: EncodedImage;
  readonly kept: readonly PlacedCrop[];
}

/** A prompt as the decoder gets it: text ids, and images in their places. */
export type PromptPiece = number | PlacedImage;

/** What a prompt may go on from. */
export interface CachedStart {
  readonly sequence: Sequence;
  /** Pieces of the prompt that the sequence holds already. */
  readonly pieces: number;
}

/**
 * The decoder's keys and values of a conversation, kept between calls: of the next prompt, only what follows the part that it shares with what is held
 * goes through the decoder. The answer is the same as without it.
 *
 * An image is recognised when it is the same encoded one (`encodeImages`) and the pruner keeps the same patches of it. A pruner that reads the text, or
 * prunes inside the decoder, starts anew at each call.
 */
export class PromptCache {
  private sequence: Sequence | undefined;
  private pieces: readonly PromptPiece[] = [];

  /** Tokens held, text and visual. */
  get tokens(): number {
    return this.sequence?.length ?? 0;
  }

  /** A cache that goes on from here on its own. */
  fork(): PromptCache {
    const copy = new PromptCache();
    copy.sequence = this.sequence?.fork();
    copy.pieces = this.pieces;
    return copy;
  }

  /** Frees what is held. The cache can be used again: it starts anew. */
  dispose(): void {
    this.sequence?.dispose();
    this.sequence = undefined;
    this.pieces = [];
  }

  /**
   * Goes back to what is held of a prompt, and hands out the sequence to be continued, which stays the cache's. The last piece always remains to be
   * computed, for its logits. For the model's use.
   */
  begin(prompt: readonly PromptPiece[], newSequence: () => Sequence): CachedStart {
    this.sequence ??= newSequence();
    let shared = 0;
    while (shared < Math.min(this.pieces.length, prompt.length - 1) && samePiece(this.pieces[shared], prompt[shared])) shared++;
    this.pieces = prompt.slice(0, shared);
    this.sequence.truncate(tokensIn(this.pieces));
    return { sequence: this.sequence, pieces: shared };
  }

  /** Notes what a call put into the sequence, also one that was broken off: what not all blocks hold is forgotten. For the model's use. */
  end(all: readonly PromptPiece[]): void {
    const { sequence } = this;
    if (!sequence) return;
    let held = 0;
    let tokens = 0;
    for (; held < all.length; held++) {
      const more = tokensIn(all.slice(held, held + 1));
      if (tokens + more > sequence.length) break;
      tokens += more;
    }
    this.pieces = all.slice(0, held);
    sequence.truncate(tokens);
  }
}

/** Rows that pieces take in the decoder. */
export function tokensIn(pieces: readonly PromptPiece[]): number {
  return pieces.reduce<number>((sum, piece) => sum + (typeof piece === 'number' ? 1 : tokensOf(piece.kept)), 0);
}

export function tokensOf(kept: readonly KeptPatches[]): number {
  return kept.reduce((sum, { tokens }) => sum + tokens, 0);
}

function samePiece(a: PromptPiece | undefined, b: PromptPiece | undefined): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  return a.image === b.image && a.kept.length === b.kept.length && a.kept.every((one, i) => sameTokens(one, b.kept[i] as PlacedCrop));
}

/** Kept patches tell that themselves; of merged tokens only the pruner's key does. */
function sameTokens(a: PlacedCrop, b: PlacedCrop): boolean {
  if ((a.merged || b.merged) && (a.key === undefined || a.key !== b.key)) return false;
  return a.rows.length === b.rows.length && a.rows.every((row, i) => row === b.rows[i]);
}
