import { PromptError, StateError } from '../layers/errors';
import { checkOptionNames, type OptionNames } from '../weights/option_names';
import { type Answer, ASK_OPTIONS, type AskOptions, asList } from './answer';
import type { ChatMessage } from './chat';
import { disposeEncoded, type EncodedImage } from './encoded';
import type { ImageInput, PreparedImage } from './image/types';
import { PromptCache } from './prompt_cache';
import { createPruner } from './prune/registry';
import type { Pruner } from './prune/types';
import { EncodedImages } from './token_request';

/** What holds for every turn; a turn's own options come before these. */
export interface ChatOptions extends Omit<AskOptions, 'cache' | 'signal' | 'tap'> {
  /** A message ahead of the first turn, where the chat template takes one. */
  readonly system?: string;
}

export interface TurnOptions extends Omit<AskOptions, 'cache' | 'prune'> {
  /** Images that this turn adds; they go in front of its text unless that has image tokens of its own. */
  readonly images?: TurnImage | readonly TurnImage[];
}

const { cache: _cache, prune, ...OF_A_TURN } = ASK_OPTIONS;
const TURN_OPTIONS: OptionNames<TurnOptions> = { ...OF_A_TURN, images: true };
const { signal: _signal, tap: _tap, ...OF_ALL_TURNS } = OF_A_TURN;
const CHAT_OPTIONS: OptionNames<ChatOptions> = { ...OF_ALL_TURNS, prune, system: true };

export type TurnImage = ImageInput | PreparedImage;

/** The model's side of a chat. */
export interface Speaker {
  readonly imageToken: string | undefined;
  /** What `encode` needs; `close` frees what was made for it. */
  prepare(images: readonly TurnImage[], options: AskOptions): Promise<{ readonly images: readonly PreparedImage[]; close(): void }>;
  encode(images: readonly PreparedImage[], options: AskOptions): Promise<EncodedImages>;
  stream(images: EncodedImages, messages: readonly ChatMessage[], options: AskOptions): AsyncGenerator<string, Answer, undefined>;
}

/**
 * A conversation whose earlier turns and images stay in the decoder's key-value cache: a turn costs what it adds (`usage.cachedTokens` tells what was
 * there). Each answer is the one that the whole conversation asked at once would give. A pruner that reads the text starts anew at each turn.
 *
 * A turn counts when it was answered to its end: one that fails, is aborted or is left early changes nothing, and may be said again.
 */
export class Chat {
  private readonly cache = new PromptCache();
  private readonly pruner: Pruner;
  private readonly encoded: EncodedImage[] = [];
  private history: readonly ChatMessage[];
  private state: 'idle' | 'answering' | 'disposed' = 'idle';

  /** Made by `VisionLanguageModel.chat`. @throws PruneError for wrong options */
  constructor(
    private readonly speaker: Speaker,
    private readonly options: ChatOptions = {},
  ) {
    checkOptionNames(options, CHAT_OPTIONS, 'chat');
    this.pruner = createPruner(options.prune ?? { method: 'none' });
    this.history = options.system === undefined ? [] : [{ role: 'system', content: options.system }];
  }

  /** What was said so far. */
  get messages(): readonly ChatMessage[] {
    return this.history;
  }

  /**
   * Says something and waits for the whole answer.
   * @throws StateError `CHAT_BUSY`, `DISPOSED`; what `VisionLanguageModel.ask` throws
   *
   * ```ts
   * const chat = model.chat({ prune: { method: 'vispruner', tokens: 32 } });
   * await chat.say('where is the red star?', { images: 'stars.png' });
   * await chat.say('and the blue one?');
   * ```
   */
  async say(text: string, options: TurnOptions = {}): Promise<Answer> {
    const stream = this.stream(text, options);
    for (;;) {
      const step = await stream.next();
      if (step.done) return step.value;
    }
  }

  /** As `say`, in pieces of text as they are written; the generator returns the whole answer. */
  async *stream(text: string, given: TurnOptions = {}): AsyncGenerator<string, Answer, undefined> {
    checkOptionNames(given, TURN_OPTIONS, 'say');
    const { images = [], ...options } = given;
    if (this.state === 'disposed') throw new StateError('DISPOSED', 'This chat was disposed; begin another with model.chat().');
    if (this.state === 'answering') throw new StateError('CHAT_BUSY', 'This chat is still answering; wait for its answer before the next turn.');
    this.state = 'answering';
    let added: readonly EncodedImage[] = [];
    try {
      const { system: _, ...usual } = this.options;
      const turn: AskOptions = { ...usual, ...options, prune: this.pruner, cache: this.cache };
      const before = await this.encode(asList(images), turn);
      added = before.images;
      const messages = [...this.history, userMessage(text, added.length, this.speaker.imageToken)];
      const answer = yield* this.speaker.stream(new EncodedImages([...this.encoded, ...added]), messages, turn);
      this.encoded.push(...added);
      added = [];
      this.history = [...messages, { role: 'assistant', content: answer.text }];
      const { prepare, encode } = before;
      const { firstToken, total } = answer.timing;
      const late = { prepare, encode, firstToken: firstToken + prepare + encode, total: total + prepare + encode };
      return { ...answer, timing: { ...answer.timing, ...late } };
    } finally {
      disposeEncoded(added);
      if ((this.state as string) === 'disposed') this.free();
      else this.state = 'idle';
    }
  }

  /** Frees the cache and the images, at the end of a turn that still runs. Idempotent. */
  dispose(): void {
    const { state } = this;
    this.state = 'disposed';
    if (state !== 'answering') this.free();
  }

  /** A turn's images behind the encoder, and the milliseconds that it took. */
  private async encode(
    images: readonly TurnImage[],
    options: AskOptions,
  ): Promise<{ images: readonly EncodedImage[]; prepare: number; encode: number }> {
    if (images.length === 0) return { images: [], prepare: 0, encode: 0 };
    const begun = performance.now();
    const prepared = await this.speaker.prepare(images, options);
    try {
      const prepare = performance.now() - begun;
      const encoded = await this.speaker.encode(prepared.images, options);
      return { images: encoded.images, prepare, encode: performance.now() - begun - prepare };
    } finally {
      prepared.close();
    }
  }

  private free(): void {
    this.cache.dispose();
    disposeEncoded(this.encoded.splice(0));
  }
}

/** A text without image tokens of its own has all images in front. */
export function userMessage(text: string, images: number, imageToken?: string): ChatMessage {
  if (typeof text !== 'string') throw new PromptError('EMPTY_PROMPT', `The question is ${String(text)}. Give text.`);
  if (imageToken !== undefined && text.includes(imageToken)) return { role: 'user', content: text };
  const places = Array.from({ length: images }, () => ({ type: 'image' as const }));
  return { role: 'user', content: [...places, { type: 'text', text }] };
}
