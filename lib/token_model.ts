import { StateError } from '../layers/errors';
import type { Tap } from '../layers/tap';
import { checkOptionNames } from '../weights/option_names';
import type { ParameterSource } from '../weights/sources';
import type { BackendName } from './backend/backends';
import type { WeightDtype } from './backend/precision';
import type { GenerationConfig, ModelConfig } from './config';
import { allLogits } from './decoder';
import { TokenDraw } from './draw';
import { disposeEncoded, type EncodedImage } from './encoded';
import { type GeneratedAll, generateTokens, newTokenLimit, type StreamedToken, usageOf } from './generate';
import { checkPixelForm, checkPixelValues } from './image/prepare';
import type { PreparedImage } from './image/types';
import type { EncodedRequest, Llava } from './llava';
import { Pacer, Queue } from './pacer';
import { createPruner } from './prune/registry';
import type { Pruner } from './prune/types';
import { checkContinuations, scoreContinuations } from './score';
import {
  checkCaches,
  checkedIds,
  EncodedImages,
  type ForwardResult,
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerateResult,
  type Prune,
  RUN_OPTIONS,
  type RunOptions,
  type ScoreResult,
  type TokenRequest,
} from './token_request';

/** A model that takes token ids and prepared images. Calls queue in order; everything that a call makes is freed when it ends. */
export class TokenModel {
  private readonly llava: Llava;
  private readonly queue = new Queue();
  private disposed = false;

  /** `source` is filled already or will be before the first call; the model owns it. */
  constructor(
    readonly config: ModelConfig,
    readonly generationConfig: GenerationConfig,
    readonly backend: BackendName,
    private readonly source: ParameterSource,
    llava: Llava,
    /** What its matrices are held in. */
    readonly dtype: WeightDtype = 'float32',
  ) {
    this.llava = llava;
  }

  /** The layers themselves, to be used alone or read. */
  get layers(): Llava {
    this.alive();
    return this.llava;
  }

  /**
   * Runs the encoder once for several calls.
   * @param options.prune every pruner that will be used: what they need of the encoder's attention is computed here
   */
  async encodeImages(
    images: readonly PreparedImage[],
    options: { prune?: Prune | readonly Prune[]; tap?: Tap; signal?: AbortSignal } = {},
  ): Promise<EncodedImages> {
    this.alive();
    checkOptionNames(options, RUN_OPTIONS, 'encodeImages');
    const pruners = list(options.prune ?? []).map(createPruner);
    const leave = await this.queue.enter(options.signal);
    try {
      return new EncodedImages(await this.encode(images, pruners, new Pacer(options.signal), options.tap));
    } finally {
      leave();
    }
  }

  /** One pass over a prompt: logits of every row. */
  async forward(request: TokenRequest, options: RunOptions = {}): Promise<ForwardResult> {
    this.alive();
    checkOptionNames(options, RUN_OPTIONS, 'forward');
    const pruner = createPruner(options.prune ?? { method: 'none' });
    const leave = await this.queue.enter(options.signal);
    const pacer = new Pacer(options.signal);
    let encoded: Encoded | undefined;
    try {
      encoded = await this.encodeRequest(request, pruner, pacer, options.tap);
      const { result, prompts } = await this.llava.prefill([encoded.request], { pruner, pacer, tap: options.tap });
      for (const prompt of prompts) prompt.release();
      const logits = await allLogits(this.llava.language, result.states, { pacer, tap: options.tap }).finally(() => result.states.dispose());
      return { logits, visual: prompts[0]?.visual ?? [], enteringTokens: result.enteringTokens[0] ?? [] };
    } finally {
      encoded?.free();
      leave();
    }
  }

  /** Ids in, ids out. @throws PromptError, PruneError before any work; the signal's reason */
  async generate(request: TokenRequest, options: GenerateOptions = {}): Promise<GenerateResult> {
    return (await this.generateBatch([request], options))[0] as GenerateResult;
  }

  /** Several requests decoded together, as packed sequences: each weight is read once a step for all. Equal to each alone. */
  async generateBatch(requests: readonly TokenRequest[], options: GenerateOptions = {}): Promise<GenerateResult[]> {
    checkOptionNames(options, GENERATE_OPTIONS, 'generate');
    const stream = this.tokens(requests, options);
    for (;;) {
      const step = await stream.next(false);
      if (step.done) return step.value;
    }
  }

  /** Each token as it is drawn. The consumer passes `true` to `next` to end that request; leaving early frees everything. */
  async *tokens(
    requests: readonly TokenRequest[],
    options: GenerateOptions = {},
  ): AsyncGenerator<StreamedToken, GenerateResult[], boolean | undefined> {
    this.alive();
    const begun = performance.now();
    const pruner = createPruner(options.prune ?? { method: 'none' });
    checkCaches(requests);
    const limits = requests.map((request) => this.newTokenLimit(request, pruner, options.maxNewTokens));
    const endIds = this.endIds;
    const draws = requests.map(({ inputIds }, request) => new TokenDraw(options, { request, promptIds: Int32Array.from(inputIds) }, endIds));
    const leave = await this.queue.enter(options.signal);
    const pacer = new Pacer(options.signal);
    const encoded: Encoded[] = [];
    try {
      await pacer.pause();
      for (const request of requests) encoded.push(await this.encodeRequest(request, pruner, pacer, options.tap));
      const encode = performance.now() - begun;
      const context = { pruner, pacer, tap: options.tap, endIds, limits, draws };
      const stream = generateTokens(
        this.llava,
        encoded.map(({ request }) => request),
        context,
      );
      let firstToken = 0;
      let stopped: boolean | undefined;
      try {
        for (;;) {
          const step = await stream.next(stopped);
          firstToken ||= performance.now() - begun;
          if (step.done) return withTiming(step.value, { begun, encode, firstToken });
          stopped = yield step.value;
        }
      } finally {
        await stream.return({ results: [], timing: { select: 0, prefill: 0 } });
      }
    } finally {
      for (const one of encoded) one.free();
      leave();
    }
  }

  /**
   * How likely texts are that could follow a prompt, which goes through the decoder once for all of them. Log-probabilities are those of the model itself:
   * of what `generate` would write at temperature 1, with the same pruning.
   *
   * @throws PromptError `BAD_CONTINUATION` and what `generate` throws, before any work; the signal's reason
   */
  async score(request: TokenRequest, continuations: readonly (Int32Array | readonly number[])[], options: RunOptions = {}): Promise<ScoreResult> {
    this.alive();
    checkOptionNames(options, RUN_OPTIONS, 'score');
    const begun = performance.now();
    const pruner = createPruner(options.prune ?? { method: 'none' });
    const texts = checkContinuations(continuations, this.config.text_config.vocab_size, this.imageToken);
    this.newTokenLimit(request, pruner, Math.max(...texts.map(({ length }) => length)));
    const leave = await this.queue.enter(options.signal);
    const pacer = new Pacer(options.signal);
    let encoded: Encoded | undefined;
    try {
      await pacer.pause();
      encoded = await this.encodeRequest(request, pruner, pacer, options.tap);
      const encode = performance.now() - begun;
      const { scores, prompt, entering, timing } = await scoreContinuations(this.llava, encoded.request, texts, { pruner, pacer, tap: options.tap });
      const newTokens = texts.reduce((sum, { length }) => sum + length, 0);
      const usage = usageOf(this.llava, encoded.request, prompt, entering, newTokens);
      const firstToken = encode + timing.select + timing.prefill;
      const total = performance.now() - begun;
      return { scores, visual: prompt.visual, usage, timing: { prepare: 0, encode, ...timing, firstToken, decode: total - firstToken, total } };
    } finally {
      encoded?.free();
      leave();
    }
  }

  /** Ids that end an answer. */
  get endIds(): ReadonlySet<number> {
    return new Set(this.generationConfig.eos_token_id ?? this.config.text_config.eos_token_id);
  }

  /** Frees the weights. Calls that still run fail; a second dispose does nothing. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.source.dispose();
  }

  /** @throws StateError `DISPOSED` */
  protected alive(): void {
    if (this.disposed) throw new StateError('DISPOSED', 'This model was disposed; load it again.');
  }

  private get imageToken(): number | undefined {
    return this.config.model_type === 'llava' ? this.config.image_token_index : undefined;
  }

  private async encode(images: readonly PreparedImage[], pruners: readonly Pruner[], pacer: Pacer, tap?: Tap): Promise<EncodedImage[]> {
    this.checkImages(images);
    for (const { pixelValues } of images) await checkPixelValues(pixelValues);
    const needs = pruners.map((pruner) => pruner.needs(this.llava.encoder));
    return this.llava.encode(images, needs, { pacer, tap });
  }

  /** @throws StateError `DISPOSED`; ImageError `IMAGE_TENSOR` */
  private checkImages(images: readonly PreparedImage[]): void {
    for (const [i, image] of images.entries()) {
      if (image.pixelValues.isDisposed) throw new StateError('DISPOSED', `The pixels of image ${i} were disposed. Prepare the image again.`);
      if (this.config.model_type === 'llava') checkPixelForm(image, this.config.vision_config); // another model refuses images as such
    }
  }

  private async encodeRequest(request: TokenRequest, pruner: Pruner, pacer: Pacer, tap?: Tap): Promise<Encoded> {
    const inputIds = checkedIds(request.inputIds, this.config.text_config.vocab_size);
    const { cache, question } = request;
    if (request.images instanceof EncodedImages) {
      return { request: { inputIds, images: request.images.images, question, cache }, free() {} };
    }
    const images = request.images ? await this.encode(request.images, [pruner], pacer, tap) : [];
    return { request: { inputIds, images, question, cache }, free: () => disposeEncoded(images) };
  }

  /** Checks ids and images by their form, and from that the context. */
  private newTokenLimit({ inputIds, images }: TokenRequest, pruner: Pruner, asked: number | undefined): number {
    checkedIds(inputIds, this.config.text_config.vocab_size);
    if (!(images instanceof EncodedImages)) this.checkImages(images ?? []);
    const shapes =
      images instanceof EncodedImages
        ? images.images.map(({ grid, crops }) => ({ grid, crops: crops.length }))
        : (images ?? []).map(({ grid, pixelValues }) => ({ grid, crops: pixelValues.shape[0] }));
    const extra = (grid: PreparedImage['grid']) => this.llava.tokensPerCrop(grid) - grid.rows * grid.columns;
    const visual = shapes.reduce(
      (sum, { grid, crops }) =>
        sum +
        crops * ((pruner.enteringTokens(grid.rows * grid.columns, this.llava.language.blocks.length)?.[0] ?? grid.rows * grid.columns) + extra(grid)),
      0,
    );
    const { imageToken } = this;
    const text = Array.from(inputIds).filter((id) => id !== imageToken).length;
    const usual = this.generationConfig.max_new_tokens ?? 256;
    return newTokenLimit(asked, usual, text + visual, this.config.text_config.max_position_embeddings);
  }
}

interface Encoded {
  readonly request: EncodedRequest;
  /** Frees what was encoded for this call alone. */
  free(): void;
}

function withTiming(
  { results, timing }: GeneratedAll,
  { begun, encode, firstToken }: { begun: number; encode: number; firstToken: number },
): GenerateResult[] {
  const total = performance.now() - begun;
  return results.map((result) => ({ ...result, timing: { prepare: 0, encode, ...timing, firstToken, decode: total - firstToken, total } }));
}

function list<T>(value: T | readonly T[]): readonly T[] {
  return Array.isArray(value) ? value : [value as T];
}
