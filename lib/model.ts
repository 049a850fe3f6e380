import { ConfigError, PromptError } from '../layers/errors';
import { checkOptionNames, type OptionNames } from '../weights/option_names';
import type { ParameterSource } from '../weights/sources';
import { type Answer, ASK_OPTIONS, type AskOptions, asList, type QuestionImages } from './answer';
import { checkAnswerOptions, chooseAnswer, writeAnswer } from './answering';
import type { BackendName } from './backend/backends';
import type { WeightDtype } from './backend/precision';
import { type ChatMessage, type ChatProcessor, StopStrings } from './chat';
import { lastUserText } from './chat/messages';
import type { GenerationConfig, ModelConfig } from './config';
import { Chat, type ChatOptions, type Speaker, userMessage } from './conversation';
import { Grammars } from './grammar/grammar';
import { decodeImage } from './image/decode_node';
import { prepareSteps } from './image/prepare';
import type { Aspect, PreprocessorConfig } from './image/preprocessor_config';
import type { ImageInput, PreparedImage } from './image/types';
import type { Llava } from './llava';
import { Pacer, paced } from './pacer';
import { TokenModel } from './token_model';
import { EncodedImages } from './token_request';

/** What a checkpoint's directory holds beside the weights. */
export interface Processors {
  /** Absent where the directory has no tokenizer.json. */
  readonly chat: ChatProcessor | undefined;
  readonly images: PreprocessorConfig;
  /** What is odd about the checkpoint or the backend but does not prevent their use. */
  readonly warnings: readonly string[];
}

export interface PrepareImagesOptions {
  /** How an image that is no square is fitted; default: what the checkpoint says. */
  readonly aspect?: Aspect;
  readonly signal?: AbortSignal;
}

const PREPARE_OPTIONS: OptionNames<PrepareImagesOptions> = { aspect: true, signal: true };

/** A vision-language model that speaks text: a `TokenModel` with its tokenizer, chat template and image processor. Made by `loadModel`. */
export class VisionLanguageModel extends TokenModel {
  private held: Grammars | undefined;

  constructor(
    config: ModelConfig,
    generationConfig: GenerationConfig,
    backend: BackendName,
    source: ParameterSource,
    llava: Llava,
    private readonly processors: Processors,
    dtype: WeightDtype = 'float32',
  ) {
    super(config, generationConfig, backend, source, llava, dtype);
  }

  /** What was odd about the checkpoint or the backend but did not prevent their use, for whoever loaded it to be told. */
  get warnings(): readonly string[] {
    return this.processors.warnings;
  }

  /** Frees the weights, and the grammars of schemas. Calls that still run fail; a second dispose does nothing. */
  override dispose(): void {
    this.held?.dispose();
    this.held = undefined;
    super.dispose();
  }

  private get grammars(): Grammars {
    const vocabulary = this.config.text_config.vocab_size;
    this.held ??= new Grammars({ bytes: this.chatProcessor.tokenBytes, vocabulary, endIds: this.endIds });
    return this.held;
  }

  /** The tokenizer and the chat template. @throws ConfigError `NO_TOKENIZER` */
  get chatProcessor(): ChatProcessor {
    const { chat } = this.processors;
    if (chat) return chat;
    throw new ConfigError(
      'NO_TOKENIZER',
      "The model's directory has no tokenizer.json, so it takes ids only (generate, forward). Save the tokenizer in that form: transformers' AutoTokenizer writes it, also from tokenizer.model.",
    );
  }

  /**
   * Decodes images and prepares their pixels as this checkpoint was trained on them. Dispose each `pixelValues` when done.
   * @throws ImageError; PromptError `NO_VISION` for a language model alone
   */
  async prepareImages(images: readonly ImageInput[], options: PrepareImagesOptions = {}): Promise<PreparedImage[]> {
    this.alive();
    checkOptionNames(options, PREPARE_OPTIONS, 'prepareImages');
    if (this.config.model_type !== 'llava') throw new PromptError('NO_VISION', 'This model has no vision tower. Ask without an image.');
    const { patch_size: patchSize } = this.config.vision_config;
    const prepared: PreparedImage[] = [];
    const pacer = new Pacer(options.signal);
    try {
      for (const image of images) {
        const decoded = await decodeImage(image, { signal: options.signal });
        prepared.push(await paced(prepareSteps(decoded, this.processors.images, { patchSize, aspect: options.aspect }), pacer.pause));
        await pacer.pause();
      }
      return prepared;
    } catch (error) {
      disposePrepared(prepared);
      throw error;
    }
  }

  /**
   * Answers a question, about one image, several, or none (`[]`).
   *
   * @param question text, in front of which the images are put unless it has image tokens of its own; or messages, in which `{type: 'image'}` or the
   * image token marks their places
   * @throws ImageError, PromptError, PruneError; the signal's reason
   *
   * ```ts
   * const { text } = await model.ask('cat.jpg', 'What does the cat look at?', { prune: { method: 'vispruner', tokens: 64 } });
   * ```
   */
  async ask(images: QuestionImages, question: string | readonly ChatMessage[], options: AskOptions = {}): Promise<Answer> {
    const stream = this.stream(images, question, options);
    for (;;) {
      const step = await stream.next();
      if (step.done) return step.value;
    }
  }

  /** As `ask`, in pieces of text as they are written. Leaving the loop early frees everything. The generator returns the whole answer. */
  async *stream(
    images: QuestionImages,
    question: string | readonly ChatMessage[],
    options: AskOptions = {},
  ): AsyncGenerator<string, Answer, undefined> {
    this.alive();
    checkOptionNames(options, ASK_OPTIONS, 'ask');
    const begun = performance.now();
    options.signal?.throwIfAborted();
    const chat = this.chatProcessor;
    checkAnswerOptions(options);
    new StopStrings(asList(options.stop)); // refuses wrong ones before any work
    const opened = await this.open(images, options);
    try {
      const prepare = performance.now() - begun;
      const messages = Array.isArray(question) ? question : [userMessage(question as string, opened.count, chat.imageToken?.text)];
      const inputIds = chat.encode(messages, opened.count);
      const request = { inputIds, images: opened.images, question: lastUserText(messages), cache: options.cache };
      const answer = options.choices
        ? yield* chooseAnswer(this, request, chat.encodeAnswers(messages, opened.count, options.choices), options)
        : yield* writeAnswer(this, chat, this.grammars, request, options);
      const late = { prepare, firstToken: answer.timing.firstToken + prepare, total: performance.now() - begun };
      return { ...answer, timing: { ...answer.timing, ...late } };
    } finally {
      opened.close();
    }
  }

  /** Begins a conversation that keeps its turns and images in the key-value cache. Dispose it when it is over. @throws PruneError; `NO_TOKENIZER` */
  chat(options: ChatOptions = {}): Chat {
    this.alive();
    const speaker: Speaker = {
      imageToken: this.chatProcessor.imageToken?.text,
      prepare: (images, turn) => this.prepareAll(images, turn),
      encode: (images, { prune, tap, signal }) => this.encodeImages(images, { prune, tap, signal }),
      stream: (images, messages, turn) => this.stream(images, messages, turn),
    };
    return new Chat(speaker, options);
  }

  private async open(
    images: QuestionImages,
    options: AskOptions,
  ): Promise<{ images: readonly PreparedImage[] | EncodedImages; count: number; close(): void }> {
    if (images instanceof EncodedImages) return { images, count: images.images.length, close() {} };
    // No image is [], so that one that was lost on the way is not taken for none.
    const prepared = await this.prepareAll(images === undefined ? [images] : asList(images), options);
    return { ...prepared, count: prepared.images.length };
  }

  /** Images that came prepared stay the caller's; `close` frees the others. */
  private async prepareAll(
    list: readonly (ImageInput | PreparedImage)[],
    options: AskOptions,
  ): Promise<{ images: readonly PreparedImage[]; close(): void }> {
    const own: PreparedImage[] = [];
    try {
      const prepared: PreparedImage[] = [];
      for (const image of list) {
        if (isPrepared(image)) prepared.push(image);
        else {
          const [made] = await this.prepareImages([image], { aspect: options.aspect, signal: options.signal });
          own.push(made as PreparedImage);
          prepared.push(made as PreparedImage);
        }
      }
      return { images: prepared, close: () => disposePrepared(own) };
    } catch (error) {
      disposePrepared(own);
      throw error;
    }
  }
}

function isPrepared(image: ImageInput | PreparedImage): image is PreparedImage {
  return typeof image === 'object' && image !== null && 'pixelValues' in image;
}

function disposePrepared(images: readonly PreparedImage[]): void {
  for (const { pixelValues } of images) pixelValues.dispose();
}
