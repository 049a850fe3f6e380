import { createHash } from 'node:crypto';
import { ImageError } from '../../layers/errors';
import type { Answer, AskOptions, WrittenToken } from '../answer';
import type { ChatMessage } from '../chat';
import { decodeImage } from '../image/decode_node';
import { frequencyPenalty, type LogitsProcessor, logitBias } from '../logits_processors';
import type { VisionLanguageModel } from '../model';
import { createPruner, type PruneOptions } from '../prune/registry';
import type { Pruner } from '../prune/types';
import type { TextLogprobs } from '../text_logprobs';
import { EncodedImages } from '../token_request';
import { RequestError } from './errors';
import type { CompletionRequest } from './request';
import { Store } from './store';

/** Characters of text for each token of the context: a text that is longer is not worth reading to count its tokens. */
const CHARACTERS_PER_TOKEN = 16;

export interface AnswererOptions {
  /** For requests that say nothing of pruning. */
  readonly prune: PruneOptions;
  /** For requests that give none. */
  readonly seed: number;
  /** Conversations whose keys and values are kept. */
  readonly conversations: number;
  readonly maxPixels: number;
}

/** Text as it is written, with the log-probabilities of its tokens where they were asked for. */
export interface Piece {
  readonly text: string;
  readonly logprobs: readonly TextLogprobs[];
}

/** The model as the server asks it: one request at a time. */
export class Answerer {
  private readonly store: Store;
  private readonly usual: Pruner;

  /** @throws PruneError; ConfigError `NO_TOKENIZER` */
  constructor(
    private readonly model: VisionLanguageModel,
    private readonly options: AnswererOptions,
  ) {
    const { num_hidden_layers: blocks, num_key_value_heads: heads, head_dim: size } = model.config.text_config;
    this.store = new Store(options.conversations, model.chatProcessor.imageToken?.id, 2 * blocks * heads * size * Float32Array.BYTES_PER_ELEMENT);
    this.usual = createPruner(options.prune);
  }

  /** What can be known of a request without any work. @throws RequestError `PROMPT_TOO_LONG`; PruneError */
  check({ messages, prune }: CompletionRequest): void {
    if (prune) createPruner(prune);
    const context = this.model.config.text_config.max_position_embeddings;
    const texts = messages.flatMap(({ content }) =>
      typeof content === 'string' ? [content] : content.map((part) => ('text' in part ? part.text : '')),
    );
    const characters = texts.reduce((sum, text) => sum + text.length, 0);
    if (characters > context * CHARACTERS_PER_TOKEN || messages.length > context) {
      throw new RequestError(
        'PROMPT_TOO_LONG',
        `The ${messages.length} message(s) have ${characters} characters, far more than fit into this model's context of ${context} tokens. Shorten them.`,
        { param: 'messages' },
      );
    }
  }

  /** Pieces of the answer as they are written; returns all of it. Not to be run twice at once. */
  async *answer(request: CompletionRequest, files: readonly Uint8Array[], signal: AbortSignal): AsyncGenerator<Piece, Answer, undefined> {
    const pruning = request.prune ?? this.options.prune;
    const pruner = request.prune ? createPruner(request.prune) : this.usual;
    const begun = performance.now();
    try {
      const images = await this.encodeAll(files, pruner, signal);
      const encode = performance.now() - begun;
      const ids = this.model.chatProcessor.encode(request.messages, files.length);
      const conversation =
        pruner.textDependent || this.options.conversations === 0
          ? undefined
          : this.store.begin({ pruning: JSON.stringify(pruning), ids, images: images.images });
      const options = { ...this.drawing(request), prune: pruner, cache: conversation?.cache, signal };
      const answer = yield* this.pieces(images, request.messages, options);
      if (conversation) conversation.course = { ...conversation.course, ids: Int32Array.from([...ids, ...answer.ids]) };
      const { timing } = answer;
      return { ...answer, timing: { ...timing, encode, firstToken: timing.firstToken + encode, total: timing.total + encode } };
    } finally {
      this.store.trim();
    }
  }

  /** How an answer is drawn, or from what it is chosen: then whatever else a request says of drawing is for the model to refuse. */
  private drawing(request: CompletionRequest): AskOptions {
    const { maxNewTokens, temperature, topP, seed, logprobs, choices, schema } = request;
    const stop = request.stop.length > 0 ? request.stop : undefined;
    const given = { maxNewTokens, temperature, topP, seed, logprobs, stop, schema, logitsProcessor: processors(request) };
    return choices ? { ...given, choices } : { ...given, seed: seed ?? this.options.seed };
  }

  private async *pieces(images: EncodedImages, messages: readonly ChatMessage[], options: AskOptions): AsyncGenerator<Piece, Answer, undefined> {
    let tokens: TextLogprobs[] = [];
    const piece = (text: string): Piece => {
      const logprobs = tokens;
      tokens = [];
      return { text, logprobs };
    };
    const onToken = (token: WrittenToken) => {
      if (token.logprobs) tokens.push(token.logprobs);
    };
    const stream = this.model.stream(images, messages, options.logprobs === undefined ? options : { ...options, onToken });
    for (;;) {
      const step = await stream.next();
      if (!step.done) yield piece(step.value);
      else {
        if (tokens.length > 0) yield piece(''); // of a stop string, which is not part of the text
        return step.value;
      }
    }
  }

  /** Frees what is kept. The model is not disposed. */
  dispose(): void {
    this.store.trim(0);
  }

  private async encodeAll(files: readonly Uint8Array[], pruner: Pruner, signal: AbortSignal): Promise<EncodedImages> {
    const encoded: EncodedImages[] = [];
    for (const [i, bytes] of files.entries()) {
      try {
        encoded.push(await this.encode(bytes, pruner, signal));
      } catch (error) {
        if (error instanceof ImageError && files.length > 1)
          throw new ImageError(error.code, `Image ${i + 1} of ${files.length}: ${error.message}`, { cause: error });
        throw error;
      }
    }
    return new EncodedImages(encoded.flatMap(({ images }) => images));
  }

  private async encode(bytes: Uint8Array, pruner: Pruner, signal: AbortSignal): Promise<EncodedImages> {
    const { attention, projections, encoder } = pruner.needs(this.model.layers.encoder);
    const key = `${createHash('sha256').update(bytes).digest('hex')} ${JSON.stringify([attention, projections, encoder?.key])}`;
    const known = this.store.image(key);
    if (known) return known;
    const decoded = await decodeImage(bytes, { maxPixels: this.options.maxPixels, signal });
    const prepared = await this.model.prepareImages([decoded], { signal });
    try {
      const encoded = await this.model.encodeImages(prepared, { prune: pruner, signal });
      this.store.addImage(key, encoded);
      return encoded;
    } finally {
      for (const { pixelValues } of prepared) pixelValues.dispose();
    }
  }
}

function processors({ frequencyPenalty: frequency, presencePenalty: presence, logitBias: biases }: CompletionRequest): LogitsProcessor[] | undefined {
  const all = [...(biases ? [logitBias(biases)] : []), ...(frequency || presence ? [frequencyPenalty({ frequency, presence })] : [])];
  return all.length > 0 ? all : undefined;
}
