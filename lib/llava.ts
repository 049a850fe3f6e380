import * as tf from '@tensorflow/tfjs';
import { ClipVision, type VisionReads, type VisionValues } from '../layers/clip_vision';
import { PromptError, PruneError } from '../layers/errors';
import { Llama } from '../layers/llama';
import type { Parameters } from '../layers/parameters';
import { Projector } from '../layers/projector';
import type { Tap } from '../layers/tap';
import { inSteps, rowsOf } from './backend/step';
import type { ModelConfig, VisionLanguageConfig } from './config';
import { type PrefillOptions, type PrefillResult, prefill } from './decoder';
import {
  attentionKey,
  CropView,
  type EncodedCrop,
  type EncodedImage,
  everything,
  featuresToProject,
  type KeptPatches,
  type PlacedCrop,
  patchesIn,
  placed,
  reported,
} from './encoded';
import { type EncodedRows, type EncoderWants, runEncoder } from './encoder';
import type { PreparedImage } from './image/types';
import { type SplitPrompt, splitPrompt } from './image_tokens';
import type { PrefillInput } from './live';
import type { Pacer, Pause } from './pacer';
import { type PlacedImage, type PromptCache, type PromptPiece, tokensIn } from './prompt_cache';
import type { EncoderReducer } from './prune/merging';
import type { EncoderFacts, Grid, Needs, Projections, Pruner, PruningRun, VisualOrigins } from './prune/types';
import { Sequence } from './sequence';

/** A prompt and its encoded images; `inputIds` holds one image token an image, or one a visual token that the image has unpruned. */
export interface EncodedRequest {
  readonly inputIds: Int32Array;
  readonly images: readonly EncodedImage[];
  /** The user's text, for pruners that read it with a text encoder of their own. */
  readonly question?: string;
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
      this.vision = new ClipVision(parameters.at('vision_tower'), vision);
      this.projector = new Projector(parameters.at('multi_modal_projector'), vision.hidden_size, config.text_config.hidden_size, {
        activation: this.visionConfig.projector_hidden_act,
        bias: this.visionConfig.multimodal_projector_bias,
      });
    }
  }

  /** What pruners may know of the encoder; a bare language model has none, of 0 blocks. */
  get encoder(): EncoderFacts {
    const { num_hidden_layers: blocks = 0, num_attention_heads: heads = 0 } = this.vision?.shape ?? {};
    return { blocks, featureBlock: this.featureLayer - 1, heads, hasClassToken: true, feedsClassToken: this.feedsClassToken };
  }

  private get feedsClassToken(): boolean {
    return this.visionConfig?.vision_feature_select_strategy === 'full';
  }

  /** Visual tokens of a crop when nothing is pruned. */
  tokensPerCrop(grid: Grid): number {
    return grid.rows * grid.columns + (this.feedsClassToken ? 1 : 0);
  }

  /** Runs the encoder on prepared images, all crops together, as far as the features and the attention asked for need it. */
  async encode(images: readonly PreparedImage[], needs: readonly Needs[], options: { pacer: Pacer; tap?: Tap }): Promise<EncodedImage[]> {
    const { vision } = this;
    if (images.length === 0) return [];
    if (!vision)
      throw new PromptError('NO_VISION', `${images.length} image(s) were given to a model that has no vision tower. Ask without an image.`);
    const counts = images.map(({ pixelValues }) => pixelValues.shape[0]);
    const pixels = images.map(({ pixelValues }) => pixelValues);
    const wants = wantsOf(needs, this.encoder);
    const encoded = await runEncoder(vision, pixels, wants, options);
    const crops = cropsOf(encoded, needs, this.feedsClassToken);
    return images.map((image, i) => {
      const start = counts.slice(0, i).reduce((sum, count) => sum + count, 0);
      const reducedBy = wants.reducer ? { reducedBy: wants.reducer.key } : {};
      return { grid: image.grid, crops: crops.slice(start, start + (counts[i] as number)), ...reducedBy };
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
    const merged: tf.Tensor2D[] = [];
    let select = 0;
    try {
      for (const request of requests) {
        const unpruned = request.images.map(({ grid, crops }) => crops.length * this.tokensPerCrop(grid));
        const prompt = splitPrompt(request.inputIds, unpruned, this.visionConfig?.image_token_index);
        const { encoder: reducer, blockInput = false } = pruner.needs(this.encoder);
        checkReducer(request.images, reducer, pruner.name);
        const grids = request.images.flatMap(({ grid, crops }) => crops.map(() => grid));
        const run = pruner.begin({
          encoder: this.encoder,
          decoderBlocks: this.language.blocks.length,
          patchesPerCrop: grids.map(({ rows, columns }) => rows * columns),
          grids,
          ...(request.question === undefined ? {} : { question: request.question }),
        });
        runs.push(run);
        const begun = performance.now();
        const kept = await this.select(request.images, run, prompt.textIds, pruner.key, options.pacer.pause);
        merged.push(...kept.flatMap((one) => (one.merged ? [one.merged.tokens] : [])));
        select += performance.now() - begun;
        const pieces = piecesOf(prompt, request.images, kept);
        const { start, prefilled } = this.begin(request.cache, pieces, kept.map(reported), pruner, run);
        prompts.push(prefilled);
        const spliced = await this.splice(pieces.slice(start), options.pacer.pause);
        const unprunedPlaces = pruner.selectionPositions === 'keep' ? { unpruned: placesOf(pieces, (grid) => this.tokensPerCrop(grid)) } : {};
        inputs.push({ sequence: prefilled.sequence, ...spliced, ...unprunedPlaces, pruning: { run, blockInput } });
        await options.pacer.pause();
      }
      const begun = performance.now();
      const result = await prefill(this.language, inputs, options);
      return { result, prompts, timing: { select, prefill: performance.now() - begun } };
    } catch (error) {
      for (const prompt of prompts) prompt.release();
      throw error;
    } finally {
      tf.dispose(merged);
      for (const input of inputs) input.states.dispose();
      for (const run of runs) run.dispose();
    }
  }

  private async select(
    images: readonly EncodedImage[],
    run: PruningRun,
    textIds: Int32Array,
    key: string | undefined,
    pause: Pause,
  ): Promise<PlacedCrop[]> {
    const kept: PlacedCrop[] = [];
    const context = {
      textIds,
      embed: (ids: Int32Array) => this.textTokens(ids, pause),
      project: (features: tf.Tensor2D) => this.projectInSteps(features, pause),
      pause,
    };
    let made: tf.Tensor2D | undefined;
    try {
      for (const [image, { grid, crops }] of images.entries()) {
        for (const [crop, encoded] of crops.entries()) {
          const view = new CropView(image, crop, grid, encoded, context);
          try {
            const selection = run.select ? await run.select(view) : everything(encoded);
            made = selection.merged?.tokens;
            kept.push(placed(selection, encoded, { image, crop, grid, ...(key === undefined ? {} : { key }) }));
          } finally {
            view.dispose();
          }
          await pause();
        }
      }
      return kept;
    } catch (error) {
      made?.dispose();
      tf.dispose(kept.flatMap(({ merged }) => (merged ? [merged.tokens] : [])));
      throw error;
    }
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
    const gapless = pruner.selectionPositions !== 'keep';
    if (cache && gapless && !pruner.textDependent && !run.beforeBlock && !run.afterAttention && !run.afterBlock && !run.afterPrefill) {
      const { sequence, pieces: start } = cache.begin(pieces, newSequence);
      const held = pieces.slice(0, start);
      const patches = held.reduce<number>((sum, piece) => sum + (typeof piece === 'number' ? 0 : patchesIn(piece.kept)), 0);
      const release = (written: readonly number[] = []) => cache.end([...pieces, ...written]);
      return { start, prefilled: { sequence, visual, textTokens, cached: { tokens: tokensIn(held), patches }, release } };
    }
    cache?.dispose(); // of no use to a method that chooses by the text, drops tokens between blocks or leaves gaps
    const sequence = newSequence();
    return { start: 0, prefilled: { sequence, visual, textTokens, cached: { tokens: 0, patches: 0 }, release: () => sequence.dispose() } };
  }

  /** Embeddings [S, D], visual tokens in their places; `visualRows` are those among them that a pruner may drop: all but class tokens. */
  private async splice(pieces: readonly PromptPiece[], pause: Pause): Promise<Pick<PrefillInput, 'states' | 'visualRows' | 'origins'>> {
    const visualRows: number[] = [];
    const origins: { crops: number[]; patches: number[] } = { crops: [], patches: [] };
    const ids = Int32Array.from(pieces.filter((piece) => typeof piece === 'number'));
    const text = await this.textTokens(ids, pause);
    const visual = await this.visualTokens(pieces, pause).catch((error: unknown) => {
      text.dispose();
      throw error;
    });
    const states = tf.tidy(() => {
      const parts: tf.Tensor2D[] = [];
      let [textStart, visualStart, row, crop] = [0, 0, 0, 0];
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
          for (const [j, patch] of one.patches.entries()) {
            visualRows.push(row + one.tokens - one.patches.length + j); // a class token comes first
            origins.crops.push(crop);
            origins.patches.push(patch);
          }
          row += one.tokens;
          crop++;
        }
      }
      return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 0);
    });
    text.dispose();
    visual?.dispose();
    const found: VisualOrigins = { crops: Int32Array.from(origins.crops), patches: Int32Array.from(origins.patches) };
    return { states, visualRows: Int32Array.from(visualRows), origins: found };
  }

  /** ids [n] -> [n, D]. A table that is a head too has a word's values far apart: each costs as much as thousands of operations in a row. */
  private textTokens(ids: Int32Array, pause: Pause): Promise<tf.Tensor2D> {
    const scattered = 2000 * this.language.shape.hidden_size;
    return inSteps(ids.length, scattered, (start, length) => this.language.embed(ids.subarray(start, start + length)), pause);
  }

  /** Visual tokens of all images, [all, D]: kept features through the projector, and what pruners made behind it as it is. */
  private async visualTokens(pieces: readonly PromptPiece[], pause: Pause): Promise<tf.Tensor2D | undefined> {
    const kept = pieces.flatMap((piece) => (typeof piece === 'number' ? [] : piece.kept.map((one) => ({ image: piece.image, one }))));
    if (kept.length === 0) return undefined;
    const lengths: number[] = []; // rows of each crop that go through the projector
    const features = tf.tidy(() => {
      const parts = kept.map(({ image, one }) => featuresToProject(image, one));
      lengths.push(...parts.map((part) => part?.shape[0] ?? 0));
      const some = parts.filter((part) => part !== undefined);
      return some.length === 0 ? undefined : tf.concat(some, 0);
    });
    let projected: tf.Tensor2D | undefined;
    try {
      if (features) projected = await this.projectInSteps(features, pause);
      if (kept.every(({ one }) => one.merged?.space !== 'projected')) return projected;
      return tf.tidy(() => {
        let start = 0;
        const parts = kept.flatMap(({ one }, i) => {
          const length = lengths[i] as number;
          const own = length > 0 ? [tf.slice(projected as tf.Tensor2D, [start, 0], [length, -1])] : [];
          start += length;
          return one.merged?.space === 'projected' ? [...own, one.merged.tokens] : own;
        });
        return tf.concat(parts, 0);
      });
    } finally {
      features?.dispose();
      if (kept.some(({ one }) => one.merged?.space === 'projected')) projected?.dispose();
    }
  }

  /** [n, C] -> [n, D] */
  private projectInSteps(features: tf.Tensor2D, pause: Pause): Promise<tf.Tensor2D> {
    const projector = this.projector as Projector;
    const [from, to] = [features.shape[1], this.language.shape.hidden_size];
    return inSteps(features.shape[0], 2 * to * (from + to), (start, length) => projector.apply(rowsOf(features, start, length)), pause);
  }
}

/** A prompt with its images in their places. */
function piecesOf({ textIds, textLengths }: SplitPrompt, images: readonly EncodedImage[], kept: readonly PlacedCrop[]): PromptPiece[] {
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

/**
 * The place of each row of a prompt among all tokens that it has when nothing is pruned, and their number.
 * @throws PruneError `BAD_SELECTION` for a merged token that stands for no patch: it has no place
 */
function placesOf(pieces: readonly PromptPiece[], tokensPerCrop: (grid: Grid) => number): { places: Int32Array; length: number } {
  const places: number[] = [];
  let length = 0;
  for (const piece of pieces) {
    if (typeof piece === 'number') {
      places.push(length++);
      continue;
    }
    for (const { grid, patches, tokens } of piece.kept) {
      if (patches.includes(-1)) throw new PruneError('BAD_SELECTION', 'A pruner keeps positions, but a token that it merged stands for no patch.');
      const classTokens = tokens - patches.length;
      for (let i = 0; i < classTokens; i++) places.push(length + i);
      for (const patch of patches) places.push(length + classTokens + patch);
      length += tokensPerCrop(grid);
    }
  }
  return { places: Int32Array.from(places), length };
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

/** @throws PruneError `ATTENTION_UNAVAILABLE`, `TWO_ENCODINGS` */
function wantsOf(needs: readonly Needs[], { blocks, featureBlock }: EncoderFacts): EncoderWants {
  const reads = new Map<number, VisionReads>();
  const read = (block: number, more: VisionReads) => {
    if (!Number.isInteger(block) || block < 0 || block >= blocks) {
      throw new PruneError(
        'ATTENTION_UNAVAILABLE',
        `A pruner reads encoder block ${block}; this encoder has blocks 0 to ${blocks - 1}. Use one of these.`,
      );
    }
    reads.set(block, { ...reads.get(block), ...more });
  };
  for (const { attention, projections = [] } of needs) {
    for (const { block, rows } of attention) read(block, { [rows]: true });
    for (const block of projections) read(block, { projections: true });
  }
  const [reducer, ...others] = needs.map(({ encoder }) => encoder);
  const other = others.find((one) => one?.key !== reducer?.key);
  if (others.length > 0 && others.some((one) => one?.key !== reducer?.key)) {
    throw new PruneError(
      'TWO_ENCODINGS',
      `One encoding can't serve "${reducer?.key ?? 'no merging'}" and "${other?.key ?? 'no merging'}": merging inside the encoder changes its features. Encode for each by itself.`,
    );
  }
  return { blocks: Math.max(featureBlock, ...reads.keys()) + 1, featureBlock, reads, ...(reducer ? { reducer } : {}) };
}

/** Takes the encoder's rows apart by crop. */
function cropsOf({ states, crops, values, members }: EncodedRows, needs: readonly Needs[], feedsClassToken: boolean): EncodedCrop[] {
  const classToken = feedsClassToken || needs.some((need) => need.classToken);
  const attention = needs.flatMap((need) => need.attention);
  const encoded = crops.map(({ start, length }, i) => {
    const projections = new Map<number, Projections>();
    for (const [block, one] of values) {
      const { queries, keys } = one[i] as VisionValues;
      if (queries && keys) projections.set(block, { queries, keys });
    }
    return {
      features: tf.slice(states, [start + 1, 0], [length - 1, -1]),
      ...(members ? { members: members[i] as readonly Int32Array[] } : {}),
      feedsClassToken,
      ...(classToken ? { classToken: tf.slice(states, [start, 0], [1, -1]) } : {}),
      attention: new Map(attention.map((need) => [attentionKey(need), values.get(need.block)?.[i]?.[need.rows] as tf.Tensor2D])),
      projections,
    };
  });
  states.dispose();
  return encoded;
}

/** @throws PruneError `ENCODED_FOR_ANOTHER` */
function checkReducer(images: readonly EncodedImage[], reducer: EncoderReducer | undefined, name: string): void {
  const wrong = images.findIndex(({ reducedBy }) => reducedBy !== reducer?.key);
  if (wrong < 0) return;
  throw new PruneError(
    'ENCODED_FOR_ANOTHER',
    `Image ${wrong} was encoded with "${images[wrong]?.reducedBy ?? 'no merging'}", but method "${name}" needs "${reducer?.key ?? 'no merging'}" inside the encoder. Encode it for this method.`,
  );
}
