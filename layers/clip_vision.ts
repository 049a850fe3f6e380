import * as tf from '@tensorflow/tfjs';
import { type Activation, activation } from './activation';
import { attendSegments, attentionProbabilities, type HeadShape } from './attention';
import { Linear } from './linear';
import { LayerNorm } from './norm';
import type { Matrix, Parameter, Parameters } from './parameters';
import type { Segment, Tap } from './tap';

/** What a block of CLIP's vision tower or of its text tower needs. */
export interface ClipBlockShape {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_attention_heads: number;
  readonly layer_norm_eps: number;
  readonly hidden_act: string;
}

/** The fields of a checkpoint's `vision_config` that the computation needs. */
export interface ClipVisionShape extends ClipBlockShape {
  readonly num_hidden_layers: number;
  readonly num_channels: number;
  readonly image_size: number;
  readonly patch_size: number;
}

/**
 * What a block hands over as values besides its output, each by itself: the class token's attention, the attention that each patch receives (mean over
 * all queries), and the queries and keys themselves.
 */
export interface VisionReads {
  readonly class?: boolean;
  readonly received?: boolean;
  readonly projections?: boolean;
}

/** Of one crop, what was asked for; the caller disposes it. */
export interface VisionValues {
  /** [heads, N], class column left out. */
  readonly class?: tf.Tensor2D;
  readonly received?: tf.Tensor2D;
  /** [1 + N, C], heads side by side. */
  readonly queries?: tf.Tensor2D;
  readonly keys?: tf.Tensor2D;
}

export interface VisionBlockOutput {
  /** [crops * (1 + N), C] */
  readonly hiddenStates: tf.Tensor2D;
  /** One a crop; empty when none was asked for. */
  readonly values: readonly VisionValues[];
}

/** Queries, keys and values of rows, each [R, C]. */
export interface Projected {
  readonly queries: tf.Tensor2D;
  readonly keys: tf.Tensor2D;
  readonly values: tf.Tensor2D;
}

/** What the rows of whole crops got from one another, [crops * (1 + N), C], and what was asked for, by crop. */
export interface Mixed {
  readonly mixed: tf.Tensor2D;
  readonly values: readonly VisionValues[];
}

export interface MixOptions {
  readonly reads?: VisionReads;
  readonly tap?: Tap;
  /** Added to the scores, of each key [1, 1 + N] (where one token stands for several patches) or of each query's [1 + N, 1 + N] (a mask). For one crop. */
  readonly bias?: tf.Tensor2D;
}

export function disposeVisionValues(values: readonly VisionValues[]): void {
  for (const one of values) tf.dispose(Object.values(one));
}

/** Self-attention of the encoder: every token sees every token of its crop. */
class ClipAttention {
  private readonly q: Linear;
  private readonly k: Linear;
  private readonly v: Linear;
  private readonly out: Linear;
  private readonly shape: HeadShape;
  private readonly path: string;

  constructor(parameters: Parameters, width: number, heads: number) {
    const linear = (name: string) => new Linear(parameters.at(name), width, width, { bias: true });
    this.k = linear('k_proj');
    this.v = linear('v_proj');
    this.q = linear('q_proj');
    this.out = linear('out_proj');
    this.shape = { heads, keyValueHeads: heads, headDim: width / heads };
    this.path = parameters.path;
  }

  project(x: tf.Tensor2D): Projected {
    return { queries: this.q.apply(x), keys: this.k.apply(x), values: this.v.apply(x) };
  }

  /** [crops * (1 + N), C] each -> the mixed values, the same shape, and what was asked for */
  mix({ queries, keys, values }: Projected, crops: readonly Segment[], { reads, tap, bias }: MixOptions): Mixed {
    const handed = reads ? this.read(queries, keys, crops, reads, bias) : [];
    const onProbabilities = tap && ((value: tf.Tensor3D) => tap(`${this.path}#probabilities`, value));
    return { mixed: attendSegments(queries, keys, values, crops, this.shape, { mask: bias, onProbabilities }), values: handed };
  }

  output(mixed: tf.Tensor2D): tf.Tensor2D {
    return this.out.apply(mixed);
  }

  private read(queries: tf.Tensor2D, keys: tf.Tensor2D, crops: readonly Segment[], reads: VisionReads, bias?: tf.Tensor2D): VisionValues[] {
    const together = reads.class ? this.classRowsOfEvenCrops(queries, keys, crops) : undefined;
    return crops.map(({ start, length }, i) => {
      const rows = (x: tf.Tensor2D, count: number) => tf.slice(x, [start, 0], [count, -1]);
      return {
        ...(reads.class ? { class: together?.[i] ?? this.attentionOf(rows(queries, 1), rows(keys, length), bias) } : {}),
        ...(reads.received ? { received: this.attentionOf(rows(queries, length), rows(keys, length), bias) } : {}),
        ...(reads.projections ? { queries: rows(queries, length), keys: rows(keys, length) } : {}),
      };
    });
  }

  /** The class tokens' rows of many crops of one length as one product, where that is faster. */
  private classRowsOfEvenCrops(queries: tf.Tensor2D, keys: tf.Tensor2D, crops: readonly Segment[]): tf.Tensor2D[] | undefined {
    const length = crops[0]?.length ?? 0;
    const even = crops.length > 1 && crops.every((crop, i) => crop.start === i * length && crop.length === length);
    if (!even || tf.getBackend() === 'wasm') return undefined;
    return tf.tidy(() => {
      const { heads, headDim } = this.shape;
      const byHead = (x: tf.Tensor2D) => tf.transpose(tf.reshape(x, [crops.length, -1, heads, headDim]), [0, 2, 1, 3]); // [crops, heads, 1 + N, headDim]
      const asking = tf.slice(tf.reshape(queries, [crops.length, -1, heads * headDim]), [0, 0, 0], [-1, 1, -1]);
      const scaled = tf.reshape(tf.mul(asking, 1 / Math.sqrt(headDim)), [crops.length, heads, 1, headDim]);
      const probabilities = tf.softmax(tf.matMul(scaled, byHead(keys), false, true)); // [crops, heads, 1, 1 + N]
      const patches = tf.slice(probabilities, [0, 0, 0, 1], [-1, -1, -1, -1]);
      return tf.unstack(tf.reshape(patches, [crops.length, heads, -1])) as tf.Tensor2D[];
    });
  }

  /** Mean over the asking rows [Q, C] of a crop -> [heads, N] */
  private attentionOf(asking: tf.Tensor2D, keys: tf.Tensor2D, bias?: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => {
      const probabilities = attentionProbabilities(asking, keys, this.shape, bias); // [heads, Q, 1 + N]
      return tf.slice(tf.mean(probabilities, 1) as tf.Tensor2D, [0, 1], [-1, -1]);
    });
  }
}

/** One pre-norm block of the encoder (transformers' `CLIPEncoderLayer`); the text tower's are the same. */
export class ClipVisionBlock {
  private readonly norm1: LayerNorm;
  private readonly attention: ClipAttention;
  private readonly norm2: LayerNorm;
  private readonly fc1: Linear;
  private readonly fc2: Linear;
  private readonly activation: Activation;
  private readonly path: string;

  constructor(parameters: Parameters, shape: ClipBlockShape) {
    const { hidden_size: width, intermediate_size: inner } = shape;
    this.attention = new ClipAttention(parameters.at('self_attn'), width, shape.num_attention_heads);
    this.norm1 = new LayerNorm(parameters.at('layer_norm1'), width, shape.layer_norm_eps);
    this.fc1 = new Linear(parameters.at('mlp').at('fc1'), width, inner, { bias: true });
    this.fc2 = new Linear(parameters.at('mlp').at('fc2'), inner, width, { bias: true });
    this.norm2 = new LayerNorm(parameters.at('layer_norm2'), width, shape.layer_norm_eps);
    this.activation = activation(shape.hidden_act);
    this.path = parameters.path;
  }

  /** x [crops * (1 + N), C] -> the same shape, and what was asked for; the caller disposes all of it. */
  apply(x: tf.Tensor2D, crops: readonly Segment[], options: MixOptions = {}): VisionBlockOutput {
    let values: readonly VisionValues[] = [];
    try {
      const hiddenStates = tf.tidy(() => {
        const { mixed, values: asked } = this.mix(this.project(x), crops, options);
        values = asked;
        for (const one of asked) for (const value of Object.values(one)) tf.keep(value);
        return this.finish(x, mixed, options.tap);
      });
      return { hiddenStates, values };
    } catch (error) {
      disposeVisionValues(values); // a tap may throw
      throw error;
    }
  }

  /** The first of three parts of `apply`, for callers that pause in between; rows by themselves: [n, C] */
  project(rows: tf.Tensor2D): Projected {
    return this.attention.project(this.norm1.apply(rows));
  }

  /** The second: rows of whole crops look at one another. */
  mix(projected: Projected, crops: readonly Segment[], options: MixOptions = {}): Mixed {
    return this.attention.mix(projected, crops, options);
  }

  /** The third, rows by themselves again: what entered the block, and what `mix` gave for it, both [n, C] -> [n, C] */
  finish(rows: tf.Tensor2D, mixed: tf.Tensor2D, tap?: Tap): tf.Tensor2D {
    return tf.tidy(() => this.output(this.between(rows, mixed, tap), tap));
  }

  /** The parts of `finish`: behind the attention [n, C], */
  between(rows: tf.Tensor2D, mixed: tf.Tensor2D, tap?: Tap): tf.Tensor2D {
    const attended = this.attention.output(mixed);
    tap?.(`${this.path}.self_attn`, attended);
    return tf.add<tf.Tensor2D>(rows, attended);
  }

  /** and behind the MLP [n, C]. */
  output(between: tf.Tensor2D, tap?: Tap): tf.Tensor2D {
    const mlp = this.fc2.apply(this.activation(this.fc1.apply(this.norm2.apply(between))));
    tap?.(`${this.path}.mlp`, mlp);
    const output = tf.add<tf.Tensor2D>(between, mlp);
    tap?.(this.path, output);
    return output;
  }
}

/**
 * The vision transformer of CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020; transformers' `CLIPVisionModel`), without its
 * last norm, which LLaVA does not use. A caller runs the blocks it needs and no more: LLaVA reads the last but one, and hardly anything reads the last.
 */
export class ClipVision {
  readonly blocks: readonly ClipVisionBlock[];
  private readonly classEmbedding: Parameter;
  private readonly patchEmbedding: Matrix;
  private readonly positionEmbedding: Parameter;
  private readonly preNorm: LayerNorm;
  private readonly path: string;

  constructor(
    parameters: Parameters,
    readonly shape: ClipVisionShape,
  ) {
    const { hidden_size: width, patch_size: patch, num_channels: channels } = shape;
    const embeddings = parameters.at('embeddings');
    this.path = parameters.path;
    this.classEmbedding = embeddings.tensor('class_embedding', [width]);
    this.patchEmbedding = embeddings.at('patch_embedding').matrix('weight', channels * patch * patch, width);
    this.positionEmbedding = embeddings.at('position_embedding').tensor('weight', [this.tokens, width]);
    this.preNorm = new LayerNorm(parameters.at('pre_layrnorm'), width, shape.layer_norm_eps); // CLIP spells it so
    const layers = parameters.at('encoder').at('layers');
    this.blocks = Array.from({ length: shape.num_hidden_layers }, (_, i) => new ClipVisionBlock(layers.at(String(i)), shape));
  }

  /** Patches along a side of the image. */
  get side(): number {
    return Math.floor(this.shape.image_size / this.shape.patch_size);
  }

  /** 1 + N: the class token and the patches. */
  get tokens(): number {
    return 1 + this.side * this.side;
  }

  /** The rows of each crop. */
  segments(crops: number): Segment[] {
    return Array.from({ length: crops }, (_, i) => ({ start: i * this.tokens, length: this.tokens }));
  }

  /** Pixels [crops, H, W, channels], normalised -> the states that enter the first block, [crops * (1 + N), C]. */
  embed(pixels: tf.Tensor4D, tap?: Tap): tf.Tensor2D {
    return tf.tidy(() => this.embedPatches(this.patchRows(pixels), pixels.shape[0], undefined, tap));
  }

  /**
   * The same from patches as `patchRows` gives them, [crops * n, channels * patch * patch]. `places` are their indices in raster order where a crop
   * has only some of its patches (training leaves out ground to be fast); every crop has n.
   */
  embedPatches(patchRows: tf.Tensor2D, crops: number, places?: Int32Array, tap?: Tap): tf.Tensor2D {
    return tf.tidy(() => {
      const width = this.shape.hidden_size;
      const count = patchRows.shape[0] / crops; // n
      const table = this.positionEmbedding.value as tf.Tensor2D;
      const classPosition = tf.slice(table, [0, 0], [1, -1]);
      const positions = places
        ? tf.reshape(tf.gather(table, tf.add(tf.tensor1d(places, 'int32'), tf.scalar(1, 'int32'))), [crops, count, width])
        : tf.slice(table, [1, 0], [-1, -1]);
      const patches = tf.add(tf.reshape(this.patchEmbedding.apply(patchRows), [crops, count, width]), positions);
      const classToken = tf.add(tf.reshape(this.classEmbedding.value, [1, width]), classPosition);
      const classTokens = tf.tile(tf.reshape(classToken, [1, 1, width]), [crops, 1, 1]);
      const embedded = tf.reshape(tf.concat([classTokens, patches], 1), [crops * (1 + count), width]) as tf.Tensor2D;
      tap?.(`${this.path}.embeddings`, embedded);
      const states = this.preNorm.apply(embedded);
      tap?.(`${this.path}.pre_layrnorm`, states);
      return states;
    });
  }

  /**
   * Pixels [crops, H, W, channels] -> the patches as rows [crops * N, channels * patch * patch], in the order of torch's convolution weights
   * (channel, row, column): the patch embedding is a product, which every backend has, also its gradient.
   */
  patchRows(pixels: tf.Tensor4D): tf.Tensor2D {
    return tf.tidy(() => {
      const { num_channels: channels, patch_size: patch } = this.shape;
      const crops = pixels.shape[0];
      const { side } = this;
      const covered = tf.slice(pixels, [0, 0, 0, 0], [-1, side * patch, side * patch, -1]);
      const split = tf.reshape(covered, [crops * side, patch, side, patch * channels]); // rows of patches, row inside, column of patches, the rest
      const grouped = tf.reshape(tf.transpose(split, [0, 2, 1, 3]), [crops * side * side, patch * patch, channels]);
      return tf.reshape(tf.transpose(grouped, [0, 2, 1]), [crops * side * side, channels * patch * patch]);
    });
  }
}
