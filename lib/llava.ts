import * as tf from '@tensorflow/tfjs';
import { type AttentionRows, ClipVision } from '../layers/clip_vision';
import { ConfigError, PromptError, PruneError } from '../layers/errors';
import { Llama } from '../layers/llama';
import type { Parameters } from '../layers/parameters';
import { Projector } from '../layers/projector';
import type { Tap } from '../layers/tap';
import type { ModelConfig, VisionLanguageConfig } from './config';
import { type PrefillInput, type PrefillResult, prefill, Sequence } from './decoder';
import type { PreparedImage } from './image/types';
import type { Pacer } from './pacer';
import type { AttentionNeed, EncoderFacts, Grid, Needs, Pruner, PruningRun, VisionView } from './prune/types';

/** One image behind the encoder: what pruners choose from. Owned by whoever encoded it. */
export interface EncodedImage {
  readonly grid: Grid;
  readonly crops: readonly EncodedCrop[];
}

export interface EncodedCrop {
  /** Patches [N, C]. */
  readonly features: tf.Tensor2D;
  /** The class token [1, C] where the checkpoint feeds it to the projector too (`vision_feature_select_strategy: full`). */
  readonly classToken?: tf.Tensor2D;
  /** [heads, N] by `attentionKey`. */
  readonly attention: ReadonlyMap<string, tf.Tensor2D>;
}

/** What was kept of one crop. */
export interface KeptPatches {
  readonly image: number;
  readonly crop: number;
  readonly grid: Grid;
  /** Raster indices, ascending. */
  readonly kept: Int32Array;
  /** Visual tokens that this crop puts into the decoder. */
  readonly tokens: number;
}

/** A prompt and its encoded images; `inputIds` holds one image token an image, or one a visual token that the image has unpruned. */
export interface EncodedRequest {
  readonly inputIds: Int32Array;
  readonly images: readonly EncodedImage[];
}

export interface ForwardOptions {
  readonly pruner: Pruner;
  readonly pacer: Pacer;
  readonly tap?: Tap;
}

/** A prompt that went through the decoder. `result.states` and `sequences` belong to the caller. */
export interface PrefilledRequests {
  readonly result: PrefillResult;
  readonly sequences: readonly Sequence[];
  readonly visual: readonly (readonly KeptPatches[])[];
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

  /** What pruners may know of the encoder. @throws PromptError `NO_VISION` for a bare language model */
  get encoder(): EncoderFacts {
    return { blocks: this.vision ? this.featureLayer : 0, featureBlock: this.featureLayer - 1, hasClassToken: true };
  }

  /** Visual tokens of a crop when nothing is pruned. */
  tokensPerCrop(grid: Grid): number {
    return grid.rows * grid.columns + (this.visionConfig?.vision_feature_select_strategy === 'full' ? 1 : 0);
  }

  /** Runs the encoder on prepared images, all crops together, as far as the features and the attention asked for need it. */
  async encode(images: readonly PreparedImage[], needs: readonly Needs[], { pacer, tap }: { pacer: Pacer; tap?: Tap }): Promise<EncodedImage[]> {
    const { vision, visionConfig } = this;
    if (images.length === 0) return [];
    if (!vision || !visionConfig) throw new PromptError('NO_VISION', `${images.length} image(s) were given to a model that has no vision tower. Ask without an image.`);
    const wanted = uniqueNeeds(needs, vision);
    const counts = images.map((image) => checkedCrops(image, vision));
    const crops = vision.segments(counts.reduce((sum, count) => sum + count, 0));
    const attention = crops.map(() => new Map<string, tf.Tensor2D>());
    let states = tf.tidy(() => {
      const pixels = images.map((image) => image.pixelValues);
      return vision.embed(pixels.length === 1 ? (pixels[0] as tf.Tensor4D) : tf.concat(pixels, 0), tap);
    });
    try {
      for (const [k, block] of vision.blocks.entries()) {
        const rows = wanted.filter((need) => need.block === k);
        if (rows.length > 1) throw new PruneError('TWO_ATTENTIONS', `Both class and received attention of block ${k} were asked for in one pass; encode twice.`);
        const output = block.apply(states, crops, rows[0]?.rows, tap);
        states.dispose();
        states = output.hiddenStates;
        for (const [i, value] of output.attention.entries()) attention[i]?.set(attentionKey(k, (rows[0] as AttentionNeed).rows), value);
        await pacer.pause();
      }
      const full = visionConfig.vision_feature_select_strategy === 'full';
      const encoded = crops.map(({ start, length }, i) => ({
        features: tf.slice(states, [start + 1, 0], [length - 1, -1]),
        ...(full ? { classToken: tf.slice(states, [start, 0], [1, -1]) } : {}),
        attention: attention[i] as Map<string, tf.Tensor2D>,
      }));
      let next = 0;
      return images.map((image, i) => ({ grid: image.grid, crops: encoded.slice(next, (next += counts[i] as number)) }));
    } catch (error) {
      for (const values of attention) tf.dispose([...values.values()]);
      throw error;
    } finally {
      states.dispose();
    }
  }

  /**
   * Chooses patches, projects the kept ones, puts them where the prompt has its image tokens, and runs the decoder over all requests as packed rows.
   * @throws PromptError when image tokens and images do not match
   */
  async prefill(requests: readonly EncodedRequest[], options: ForwardOptions): Promise<PrefilledRequests> {
    const { pruner } = options;
    const runs: PruningRun[] = [];
    const sequences: Sequence[] = [];
    const inputs: PrefillInput[] = [];
    const visual: KeptPatches[][] = [];
    let select = 0;
    try {
      for (const request of requests) {
        const prompt = splitPrompt(request, this.visionConfig?.image_token_index, (grid) => this.tokensPerCrop(grid));
        const run = pruner.begin({
          encoder: this.encoder,
          decoderBlocks: this.language.blocks.length,
          patchesPerCrop: request.images.flatMap(({ grid, crops }) => crops.map(() => grid.rows * grid.columns)),
        });
        runs.push(run);
        const begun = performance.now();
        const kept = await this.select(request.images, run, prompt.textIds);
        select += performance.now() - begun;
        visual.push(kept);
        const sequence = new Sequence(this.language.newCaches(), pruner.positions);
        sequences.push(sequence);
        const { states, visualRows } = this.splice(request.images, kept, prompt);
        const previousBlockInput = pruner.needs(this.encoder).previousBlockInput ?? false;
        inputs.push({ sequence, states, visualRows, pruning: { run, previousBlockInput } });
        await options.pacer.pause();
      }
      const begun = performance.now();
      const result = await prefill(this.language, inputs, options);
      return { result, sequences, visual, timing: { select, prefill: performance.now() - begun } };
    } catch (error) {
      for (const sequence of sequences) sequence.dispose();
      throw error;
    } finally {
      for (const input of inputs) input.states.dispose();
      for (const run of runs) run.dispose();
    }
  }

  private async select(images: readonly EncodedImage[], run: PruningRun, textIds: Int32Array): Promise<KeptPatches[]> {
    const kept: KeptPatches[] = [];
    for (const [image, { grid, crops }] of images.entries()) {
      for (const [crop, encoded] of crops.entries()) {
        const view = new CropView(image, crop, grid, encoded, textIds, (features) => this.project(features));
        try {
          const count = grid.rows * grid.columns;
          const chosen = run.select ? (await run.select(view)).kept : Int32Array.from({ length: count }, (_, i) => i);
          const tokens = chosen.length + (encoded.classToken ? 1 : 0);
          kept.push({ image, crop, grid, kept: checkedSelection(chosen, count), tokens });
        } finally {
          view.dispose();
        }
      }
    }
    return kept;
  }

  /** Embeddings of one prompt [S, D], visual tokens in their places; `visualRows` are the patches among them, which a pruner may drop. */
  private splice(images: readonly EncodedImage[], kept: readonly KeptPatches[], prompt: SplitPrompt): { states: tf.Tensor2D; visualRows: Int32Array } {
    const byImage = images.map((_, image) => kept.filter((one) => one.image === image));
    const visualRows: number[] = [];
    const states = tf.tidy(() => {
      const text = this.language.embed(prompt.textIds); // [all text, D]
      const visual = kept.length > 0 ? this.project(tf.concat(kept.map((one) => keptFeatures(images, one)), 0)) : undefined;
      const parts: tf.Tensor2D[] = [];
      let [textStart, visualStart, row] = [0, 0, 0];
      for (const [i, length] of prompt.textLengths.entries()) {
        if (length > 0) parts.push(tf.slice(text, [textStart, 0], [length, -1]));
        textStart += length;
        row += length;
        for (const one of byImage[i] ?? []) { // an image follows every run of text but the last
          parts.push(tf.slice(visual as tf.Tensor2D, [visualStart, 0], [one.tokens, -1]));
          visualStart += one.tokens;
          for (let j = one.tokens - one.kept.length; j < one.tokens; j++) visualRows.push(row + j); // a class token comes first
          row += one.tokens;
        }
      }
      return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 0);
    });
    return { states, visualRows: Int32Array.from(visualRows) };
  }

  private project(features: tf.Tensor2D): tf.Tensor2D {
    return (this.projector as Projector).apply(features);
  }
}

export function disposeEncoded(images: readonly EncodedImage[]): void {
  for (const { crops } of images) {
    for (const crop of crops) tf.dispose([crop.features, crop.classToken, ...crop.attention.values()].filter((value) => value !== undefined));
  }
}

function attentionKey(block: number, rows: AttentionRows): string {
  return `${block} ${rows}`;
}

function uniqueNeeds(needs: readonly Needs[], vision: ClipVision): AttentionNeed[] {
  const all = new Map(needs.flatMap((need) => need.attention).map((need) => [attentionKey(need.block, need.rows), need]));
  for (const need of all.values()) {
    if (!vision.blocks[need.block]) {
      throw new PruneError('ATTENTION_UNAVAILABLE', `A pruner needs the attention of encoder block ${need.block}; this model runs blocks 0 to ${vision.blocks.length - 1}.`);
    }
  }
  return [...all.values()];
}

function checkedCrops(image: PreparedImage, vision: ClipVision): number {
  const [crops, height, width, channels] = image.pixelValues.shape;
  const { image_size: size, num_channels: wanted } = vision.shape;
  if (height !== size || width !== size || channels !== wanted) {
    throw new ConfigError(
      'IMAGE_SHAPE',
      `Prepared pixels are [${image.pixelValues.shape.join(', ')}], the vision tower takes [crops, ${size}, ${size}, ${wanted}]. Prepare the image with this model's processor.`,
    );
  }
  return crops;
}

/** @throws PruneError `BAD_SELECTION` */
function checkedSelection(kept: Int32Array, patches: number): Int32Array {
  for (const [i, index] of kept.entries()) {
    if (index < 0 || index >= patches || (i > 0 && index <= (kept[i - 1] as number))) {
      throw new PruneError('BAD_SELECTION', `A pruner kept patch ${index} at place ${i}: indices must be ascending and below ${patches}.`);
    }
  }
  return kept;
}

function keptFeatures(images: readonly EncodedImage[], { image, crop, grid, kept }: KeptPatches): tf.Tensor2D {
  const { features, classToken } = images[image]?.crops[crop] as EncodedCrop;
  const patches = kept.length === grid.rows * grid.columns ? features : tf.gather(features, tf.tensor1d(kept, 'int32'));
  return classToken ? tf.concat([classToken, patches], 0) : patches;
}

interface SplitPrompt {
  /** All text ids, image tokens left out. */
  readonly textIds: Int32Array;
  /** Lengths of the runs of text around the images: one more than there are images. */
  readonly textLengths: readonly number[];
}

/** @throws PromptError `IMAGE_TOKEN_COUNT` when image tokens are neither one an image nor one a visual token, `EMPTY_PROMPT` */
function splitPrompt({ inputIds, images }: EncodedRequest, imageToken: number | undefined, tokensPerCrop: (grid: Grid) => number): SplitPrompt {
  const full = images.map(({ grid, crops }) => crops.length * tokensPerCrop(grid));
  const found = imageToken === undefined ? 0 : inputIds.reduce((sum, id) => sum + (id === imageToken ? 1 : 0), 0);
  const repeated = full.reduce((sum, count) => sum + count, 0);
  if (found !== images.length && found !== repeated) {
    throw new PromptError(
      'IMAGE_TOKEN_COUNT',
      `Image tokens and visual features do not match: the prompt has ${found} image tokens, ${images.length} image(s) gave ${repeated} features. Use one "<image>" per image and let the library expand it.`,
    );
  }
  const text: number[] = [];
  const lengths: number[] = [];
  let run = 0;
  let image = 0;
  for (let i = 0; i < inputIds.length; i++) {
    if (inputIds[i] !== imageToken || imageToken === undefined) {
      text.push(inputIds[i] as number);
      run++;
      continue;
    }
    lengths.push(run);
    run = 0;
    if (found !== images.length) i = endOfRepeat(inputIds, i, full[image] as number, imageToken, image);
    image++;
  }
  lengths.push(run);
  if (text.length + found === 0) throw new PromptError('EMPTY_PROMPT', 'The prompt has no tokens. Give at least one id.');
  return { textIds: Int32Array.from(text), textLengths: lengths };
}

function endOfRepeat(ids: Int32Array, start: number, count: number, imageToken: number, image: number): number {
  for (let i = start; i < start + count; i++) {
    if (ids[i] !== imageToken) {
      throw new PromptError(
        'IMAGE_TOKEN_COUNT',
        `Image ${image} gave ${count} features, but its run of image tokens ends after ${i - start}. Use one "<image>" per image and let the library expand it.`,
      );
    }
  }
  return start + count - 1;
}

class CropView implements VisionView {
  private all: tf.Tensor2D | undefined;

  constructor(
    readonly image: number,
    readonly crop: number,
    readonly grid: Grid,
    private readonly encoded: EncodedCrop,
    readonly textIds: Int32Array,
    private readonly project: (features: tf.Tensor2D) => tf.Tensor2D,
  ) {}

  get features(): tf.Tensor2D {
    return this.encoded.features;
  }

  attention(need: AttentionNeed): tf.Tensor2D {
    const value = this.encoded.attention.get(attentionKey(need.block, need.rows));
    if (!value) {
      throw new PruneError('ATTENTION_UNAVAILABLE', `${need.rows} attention of encoder block ${need.block} was not computed: declare it in needs(), and encode for this pruner.`);
    }
    return value;
  }

  projected(): tf.Tensor2D {
    this.all ??= tf.keep(this.project(this.encoded.features)); // a pruner may ask inside a tidy
    return this.all;
  }

  dispose(): void {
    this.all?.dispose();
  }
}
