import * as tf from '@tensorflow/tfjs';
import { type AttentionRows, ClipVision } from '../layers/clip_vision';
import { PromptError, PruneError } from '../layers/errors';
import { Llama } from '../layers/llama';
import type { Parameters } from '../layers/parameters';
import { Projector } from '../layers/projector';
import type { Tap } from '../layers/tap';
import { inSteps, rowsOf } from './backend/step';
import type { ModelConfig, VisionLanguageConfig } from './config';
import { type PrefillOptions, type PrefillResult, prefill } from './decoder';
import { attentionKey, CropView, checkedSelection, type EncodedImage, type KeptPatches, keptFeatures, patchesIn } from './encoded';
import { runEncoder } from './encoder';
import type { PreparedImage } from './image/types';
import { type SplitPrompt, splitPrompt } from './image_tokens';
import type { Pacer, Pause } from './pacer';
import { type PlacedImage, type PromptCache, type PromptPiece, tokensIn } from './prompt_cache';
import type { EncoderFacts, Grid, Needs, Pruner, PruningRun } from './prune/types';
import type { PrefillInput } from './reduction';
import { Sequence } from './sequence';

/** A prompt and its encoded images; `inputIds` holds one image token an image, or one a visual token that the image has unpruned. */
export interface EncodedRequest {
  readonly inputIds: Int32Array;
  readonly images: readonly EncodedImage[];
  /** What earlier calls left, to go on from. */
  readonly cache?: PromptCache;
}

export interface ForwardOptions extends PrefillOptions {
  readonly pruner: Pruner;
}

/** A prompt that went through the decoder. */
export interface Prefilled {
  readonly sequence: Sequence;
  /** What was kept of every image, also of those that came from the cache. */
  readonly visual: readonly KeptPatches[];
  readonly textTokens: number;
  /** Tokens of the prompt that its cache held, and how many of them are visual. */
  readonly cached: { readonly tokens: number; readonly patches: number };
  /** Ends the use of the sequence: a cache takes it back, with the ids that were written behind the prompt, and any other is freed. */
  release(written?: readonly number[]): void;
}

/** `result.states` and the sequences belong to the caller. */
export interface PrefilledRequests {
  readonly result: PrefillResult;
  readonly prompts: readonly Prefilled[];
  /** Milliseconds spent in choosing patches, and in all of the decoder. */
  readonly timing: { readonly select: number; readonly prefill: number };
}

/** LLaVA as the figure in the design has it: encoder, choice of patches, projector, splice, decoder. Knows no file and no text. */
export class Llava {
  readonly vision: ClipVision | undefined;
  readonly language: Llama;
  private readonly projector: Projector | undefined;
  private readonly featureLayer: number;
  private readonly visionConfig: VisionLanguageConfig | undefined;

  /** Declares every parameter under `parameters`; they are filled by their source afterwards. */
  constructor(config: ModelConfig, parameters: Parameters) {
    this.language = new Llama(parameters.at('language_model'), config.text_config);
    this.visionConfig = config.model_type === 'llava' ? config : undefined;
    this.featureLayer = 0;
    if (this.visionConfig) {
      const { vision_config: vision, vision_feature_layer: layer } = this.visionConfig;
      this.featureLayer = layer < 0 ? vision.num_hidden_layers + 1 + layer : layer; // index into hidden_states: 0 is the embeddings
      this.vision = new ClipVision(parameters.at('vision_tower'), vision, this.featureLayer); // blocks that nobody needs do not exist
      this.projector = new Projector(parameters.at('multi_modal_projector'), vision.hidden_size, config.text_config.hidden_size, {
        activation: this.visionConfig.projector_hidden_act,
        bias: this.visionConfig.multimodal_projector_bias,
      });
    }
  }

  /** What pruners may know of the encoder; a bare language model has none, of 0 blocks. */
  get encoder(): EncoderFacts {
    return { blocks: this.vision ? this.featureLayer : 0, featureBlock: this.featureLayer - 1, hasClassToken: true };
  }

  /** Visual tokens of a crop when nothing is pruned. */
  tokensPerCrop(grid: Grid): number {
    return grid.rows * grid.columns + (this.visionConfig?.vision_feature_select_strategy === 'full' ? 1 : 0);
  }

  /** Runs the encoder on prepared images, all crops together, as far as the features and the attention asked for need it. */
  async encode(images: readonly PreparedImage[], needs: readonly Needs[], options: { pacer: Pacer; tap?: Tap }): Promise<EncodedImage[]> {
    const { vision, visionConfig } = this;
    if (images.length === 0) return [];
    if (!vision || !visionConfig)
      throw new PromptError('NO_VISION', `${images.length} image(s) were given to a model that has no vision tower. Ask without an image.`);
    const counts = images.map(({ pixelValues }) => pixelValues.shape[0]);
    const pixels = images.map(({ pixelValues }) => pixelValues);
    const wanted = wantedAttention(needs, vision);
    const { states, attention } = await runEncoder(vision, pixels, wanted, options);
    const full = visionConfig.vision_feature_select_strategy === 'full';
    const crops = vision.segments(states.shape[0] / vision.tokens).map(({ start, length }, i) => ({
      features: tf.slice(states, [start + 1, 0], [length - 1, -1]),
      ...(full ? { classToken: tf.slice(states, [start, 0], [1, -1]) } : {}),
      attention: new Map([...wanted].map(([block, rows]) => [attentionKey(block, rows), attention.get(block)?.[i] as tf.Tensor2D])),
    }));
    states.dispose();
    return images.map((image, i) => {
      const start = counts.slice(0, i).reduce((sum, count) => sum + count, 0);
      return { grid: image.grid, crops: crops.slice(start, start + (counts[i] as number)) };
    });
  }

  /**
   * Chooses patches, projects the kept ones, puts them where the prompt has its image tokens, and runs the decoder over all requests as packed rows.
   * @throws PromptError when image tokens and images do not match
   */
  async prefill(requests: readonly EncodedRequest[], options: ForwardOptions): Promise<PrefilledRequests> {
    const { pruner } = options;
    const runs: PruningRun[] = [];
    const prompts: Prefilled[] = [];
    const inputs: PrefillInput[] = [];
    let select = 0;
    try {
      for (const request of requests) {
        const unpruned = request.images.map(({ grid, crops }) => crops.length * this.tokensPerCrop(grid));
        const prompt = splitPrompt(request.inputIds, unpruned, this.visionConfig?.image_token_index);
        const run = pruner.begin({
          encoder: this.encoder,
          decoderBlocks: this.language.blocks.length,
          patchesPerCrop: request.images.flatMap(({ grid, crops }) => crops.map(() => grid.rows * grid.columns)),
        });
        runs.push(run);
        const begun = performance.now();
        const kept = await this.select(request.images, run, prompt.textIds, options.pacer.pause);
        select += performance.now() - begun;
        const pieces = piecesOf(prompt, request.images, kept);
        const { start, prefilled } = this.begin(request.cache, pieces, kept, pruner, run);
        prompts.push(prefilled);
        const { states, visualRows } = await this.splice(pieces.slice(start), options.pacer.pause);
        const previousBlockInput = pruner.needs(this.encoder).previousBlockInput ?? false;
        inputs.push({ sequence: prefilled.sequence, states, visualRows, pruning: { run, previousBlockInput } });
        await options.pacer.pause();
      }
      const begun = performance.now();
      const result = await prefill(this.language, inputs, options);
      return { result, prompts, timing: { select, prefill: performance.now() - begun } };
    } catch (error) {
      for (const prompt of prompts) prompt.release();
      throw error;
    } finally {
      for (const input of inputs) input.states.dispose();
      for (const run of runs) run.dispose();
    }
  }

  private async select(images: readonly EncodedImage[], run: PruningRun, textIds: Int32Array, pause: Pause): Promise<KeptPatches[]> {
    const kept: KeptPatches[] = [];
    for (const [image, { grid, crops }] of images.entries()) {
      for (const [crop, encoded] of crops.entries()) {
        const view = new CropView(image, crop, grid, encoded, textIds, (features) => this.project(features), pause);
        try {
          const count = grid.rows * grid.columns;
          const chosen = run.select ? (await run.select(view)).kept : Int32Array.from({ length: count }, (_, i) => i);
          const tokens = chosen.length + (encoded.classToken ? 1 : 0);
          kept.push({ image, crop, grid, kept: checkedSelection(chosen, count), tokens });
        } finally {
          view.dispose();
        }
        await pause();
      }
    }
    return kept;
  }

  /** Takes up what the cache holds of the prompt; `start` is the first piece that is left to be computed. */
  private begin(
    cache: PromptCache | undefined,
    pieces: readonly PromptPiece[],
    visual: readonly KeptPatches[],
    pruner: Pruner,
    run: PruningRun,
  ): { start: number; prefilled: Prefilled } {
    const textTokens = pieces.filter((piece) => typeof piece === 'number').length;
    const newSequence = () => new Sequence(this.language.newCaches(), pruner.positions);
    if (cache && !pruner.textDependent && !run.beforeBlock && !run.afterBlock) {
      const { sequence, pieces: start } = cache.begin(pieces, newSequence);
      const held = pieces.slice(0, start);
      const patches = held.reduce<number>((sum, piece) => sum + (typeof piece === 'number' ? 0 : patchesIn(piece.kept)), 0);
      const release = (written: readonly number[] = []) => cache.end([...pieces, ...written]);
      return { start, prefilled: { sequence, visual, textTokens, cached: { tokens: tokensIn(held), patches }, release } };
    }
    cache?.dispose(); // of no use to a method that chooses by the text or drops tokens between blocks
    const sequence = newSequence();
    return { start: 0, prefilled: { sequence, visual, textTokens, cached: { tokens: 0, patches: 0 }, release: () => sequence.dispose() } };
  }

  /** Embeddings [S, D], visual tokens in their places; `visualRows` are the patches among them, which a pruner may drop. */
  private async splice(pieces: readonly PromptPiece[], pause: Pause): Promise<{ states: tf.Tensor2D; visualRows: Int32Array }> {
    const visualRows: number[] = [];
    const ids = Int32Array.from(pieces.filter((piece) => typeof piece === 'number'));
    const text = await this.textTokens(ids, pause);
    const visual = await this.visualTokens(pieces, pause).catch((error: unknown) => {
      text.dispose();
      throw error;
    });
    const states = tf.tidy(() => {
      const parts: tf.Tensor2D[] = [];
      let [textStart, visualStart, row] = [0, 0, 0];
      for (const run of runsOf(pieces)) {
        if (typeof run === 'number') {
          parts.push(tf.slice(text, [textStart, 0], [run, -1]));
          textStart += run;
          row += run;
          continue;
        }
        for (const one of run.kept) {
          parts.push(tf.slice(visual as tf.Tensor2D, [visualStart, 0], [one.tokens, -1]));
          visualStart += one.tokens;
          for (let j = one.tokens - one.kept.length; j < one.tokens; j++) visualRows.push(row + j); // a class token comes first
          row += one.tokens;
        }
      }
      return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 0);
    });
    text.dispose();
    visual?.dispose();
    return { states, visualRows: Int32Array.from(visualRows) };
  }

  /** ids [n] -> [n, D]. A table that is a head too has a word's values far apart: each costs as much as thousands of operations in a row. */
  private textTokens(ids: Int32Array, pause: Pause): Promise<tf.Tensor2D> {
    const scattered = 2000 * this.language.shape.hidden_size;
    return inSteps(ids.length, scattered, (start, length) => this.language.embed(ids.subarray(start, start + length)), pause);
  }

  /** Kept features of all images through the projector, [all kept, D]. */
  private async visualTokens(pieces: readonly PromptPiece[], pause: Pause): Promise<tf.Tensor2D | undefined> {
    const kept = pieces.flatMap((piece) => (typeof piece === 'number' ? [] : piece.kept.map((one) => ({ image: piece.image, one }))));
    if (kept.length === 0) return undefined;
    const features = tf.tidy(() =>
      tf.concat(
        kept.map(({ image, one }) => keptFeatures(image, one)),
        0,
      ),
    );
    try {
      const [from, to] = [features.shape[1], this.language.shape.hidden_size];
      return await inSteps(features.shape[0], 2 * to * (from + to), (start, length) => this.project(rowsOf(features, start, length)), pause);
    } finally {
      features.dispose();
    }
  }

  private project(features: tf.Tensor2D): tf.Tensor2D {
    return (this.projector as Projector).apply(features);
  }
}

/** A prompt with its images in their places. */
function piecesOf({ textIds, textLengths }: SplitPrompt, images: readonly EncodedImage[], kept: readonly KeptPatches[]): PromptPiece[] {
  const pieces: PromptPiece[] = [];
  let start = 0;
  for (const [i, length] of textLengths.entries()) {
    for (const id of textIds.subarray(start, start + length)) pieces.push(id);
    start += length;
    const image = images[i]; // an image follows every run of text but the last
    if (image) pieces.push({ image, kept: kept.filter((one) => one.image === i) });
  }
  return pieces;
}

/** Text ids in a row as their number, images as they are. */
function runsOf(pieces: readonly PromptPiece[]): (number | PlacedImage)[] {
  const runs: (number | PlacedImage)[] = [];
  for (const piece of pieces) {
    const before = runs.at(-1);
    if (typeof piece !== 'number') runs.push(piece);
    else if (typeof before === 'number') runs[runs.length - 1] = before + 1;
    else runs.push(1);
  }
  return runs;
}

function wantedAttention(needs: readonly Needs[], vision: ClipVision): Map<number, AttentionRows> {
  const wanted = new Map<number, AttentionRows>();
  for (const { block, rows } of needs.flatMap((need) => need.attention)) {
    if (!vision.blocks[block]) {
      throw new PruneError(
        'ATTENTION_UNAVAILABLE',
        `A pruner needs the attention of encoder block ${block}; this model runs blocks 0 to ${vision.blocks.length - 1}. Use one of these.`,
      );
    }
    if ((wanted.get(block) ?? rows) !== rows)
      throw new PruneError('TWO_ATTENTIONS', `Both class and received attention of block ${block} were asked for in one pass; encode twice.`);
    wanted.set(block, rows);
  }
  return wanted;
}
