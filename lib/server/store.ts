import type { EncodedImage } from '../encoded';
import { PromptCache } from '../prompt_cache';
import type { EncodedImages } from '../token_request';

/** Images kept for each conversation that is kept. */
const IMAGES_PER_CONVERSATION = 4;
/** A conversation that shares less with another is not branched off from it: templates alone make prompts begin alike. */
const LEAST_SHARED = 16;

/** Keys and values of all conversations that are kept: those of a 7B model in float32 take a megabyte a token. */
const MOST_BYTES = 2 ** 30;

/** A prompt, and how it is pruned. */
export interface Course {
  readonly pruning: string;
  readonly ids: Int32Array;
  /** In the places of the image tokens. */
  readonly images: readonly EncodedImage[];
}

export interface Conversation {
  course: Course;
  readonly cache: PromptCache;
}

/**
 * What later requests can go on from: images behind the encoder, by a key of their bytes, and keys and values of the last conversations. It only guesses
 * what will help: a `PromptCache` finds out by itself how much of a prompt it holds.
 */
export class Store {
  private readonly images = new Map<string, EncodedImages>(); // in the order of use, as the conversations
  private readonly conversations: Conversation[] = [];

  /**
   * @param limit conversations that are kept; with 0 nothing outlives a request
   * @param bytesPerToken of keys and values
   */
  constructor(
    private readonly limit: number,
    private readonly imageToken: number | undefined,
    private readonly bytesPerToken: number,
  ) {}

  image(key: string): EncodedImages | undefined {
    const image = this.images.get(key);
    if (image) this.addImage(key, image);
    return image;
  }

  /** From now on the store's. */
  addImage(key: string, image: EncodedImages): void {
    this.images.delete(key);
    this.images.set(key, image);
  }

  /** The conversation that a prompt continues, one that branches off from where they part, or a new one. */
  begin(course: Course): Conversation {
    const candidates = this.conversations
      .filter(({ course: { pruning } }) => pruning === course.pruning)
      .map((conversation) => ({ conversation, shared: this.shared(conversation.course, course) }));
    const best = candidates.sort((a, b) => b.shared - a.shared)[0];
    if (best && best.shared === best.conversation.course.ids.length) {
      this.conversations.splice(this.conversations.indexOf(best.conversation), 1);
      return this.add({ course, cache: best.conversation.cache });
    }
    const branch = best && (best.shared >= LEAST_SHARED || this.hasImage(course.ids.subarray(0, best.shared)));
    return this.add({ course, cache: branch ? best.conversation.cache.fork() : new PromptCache() });
  }

  /** Frees what was used longest ago, down to `limit`. Call it when nothing of it is in use. */
  trim(limit: number = this.limit): void {
    while (this.conversations.length > limit || this.tokens * this.bytesPerToken > MOST_BYTES) this.conversations.shift()?.cache.dispose();
    for (const [key, image] of this.images) {
      if (this.images.size <= limit * IMAGES_PER_CONVERSATION) return;
      this.images.delete(key);
      image.dispose();
    }
  }

  private get tokens(): number {
    return this.conversations.reduce((sum, { cache }) => sum + cache.tokens, 0);
  }

  private add(conversation: Conversation): Conversation {
    this.conversations.push(conversation);
    return conversation;
  }

  private hasImage(ids: Int32Array): boolean {
    return this.imageToken !== undefined && ids.includes(this.imageToken);
  }

  /** Leading ids that two prompts share; an image token only counts where it stands for the same image. */
  private shared(a: Course, b: Course): number {
    let image = 0;
    let i = 0;
    for (; i < Math.min(a.ids.length, b.ids.length) && a.ids[i] === b.ids[i]; i++) {
      if (a.ids[i] === this.imageToken && a.images[image] !== b.images[image++]) break;
    }
    return i;
  }
}
