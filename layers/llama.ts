import * as tf from '@tensorflow/tfjs';
import { gatedProduct } from './activation';
import { attendSegments, attentionProbabilities, CausalMask, type HeadShape } from './attention';
import { type DecoderBlockOperation, fused } from './fused';
import { InPlaceKeyValueCache, type KeyValueCache, newKeyValueCache } from './kv_cache';
import { Linear } from './linear';
import { RmsNorm } from './norm';
import type { Embedding, Parameters } from './parameters';
import { type RopeParameters, Rotary, type RotaryTable } from './rotary';
import type { Segment, Tap } from './tap';

/** The fields of a checkpoint's `text_config` that the computation needs. */
export interface LlamaShape {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly rms_norm_eps: number;
  readonly hidden_act: string;
  readonly attention_bias: boolean;
  readonly mlp_bias: boolean;
  readonly tie_word_embeddings: boolean;
  readonly rope_parameters: RopeParameters;
}

/** What the rows of one pass have in common in every block. */
export interface BlockContext {
  readonly segments: readonly Segment[];
  readonly rotary: RotaryTable;
  /** Causal masks by segment, [queries, keys]; absent where one query sees everything. Without caches, one mask serves all segments. */
  readonly masks: readonly (tf.Tensor2D | CausalMask | undefined)[];
  /** Position id of each row. */
  readonly positions: Int32Array;
  readonly tap?: Tap;
}

/** Of rows: queries [R, heads * headDim], keys and values [R, keyValueHeads * headDim], turned by their positions. */
export interface ProjectedRows {
  readonly queries: tf.Tensor2D;
  readonly keys: tf.Tensor2D;
  readonly values: tf.Tensor2D;
}

/** Of more rows than these, a block's products take so long that it does not matter how many operations it is. */
const FEW_ROWS = 64;

class LlamaAttention {
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  private readonly path: string;

  constructor(
    parameters: Parameters,
    shape: LlamaShape,
    private readonly heads: HeadShape,
    private readonly rotary: Rotary,
  ) {
    const bias = { bias: shape.attention_bias };
    const queryWidth = heads.heads * heads.headDim;
    const keyWidth = heads.keyValueHeads * heads.headDim;
    this.q = new Linear(parameters.at('q_proj'), shape.hidden_size, queryWidth, bias);
    this.k = new Linear(parameters.at('k_proj'), shape.hidden_size, keyWidth, bias);
    this.v = new Linear(parameters.at('v_proj'), shape.hidden_size, keyWidth, bias);
    this.o = new Linear(parameters.at('o_proj'), queryWidth, shape.hidden_size, bias);
    this.path = parameters.path;
  }

  project(x: tf.Tensor2D, rotary: RotaryTable, tap?: Tap): ProjectedRows {
    const queries = this.queries(x, rotary);
    const { keys, values } = this.keysAndValues(x, rotary);
    tap?.(`${this.path}#queries`, queries);
    tap?.(`${this.path}#keys`, keys);
    return { queries, keys, values };
  }

  /** Without a table, the position embedding is left out. */
  queries(x: tf.Tensor2D, rotary?: RotaryTable): tf.Tensor2D {
    const queries = this.q.apply(x);
    return rotary ? this.rotary.apply(queries, rotary) : queries;
  }

  keys(x: tf.Tensor2D, rotary?: RotaryTable): tf.Tensor2D {
    const keys = this.k.apply(x);
    return rotary ? this.rotary.apply(keys, rotary) : keys;
  }

  keysAndValues(x: tf.Tensor2D, rotary: RotaryTable): Pick<ProjectedRows, 'keys' | 'values'> {
    return { keys: this.keys(x, rotary), values: this.v.apply(x) };
  }

  /** -> [R, heads * headDim]; appends to the caches where there are some (one a segment). */
  mix({ queries, keys, values }: ProjectedRows, context: BlockContext, caches?: readonly KeyValueCache[]): tf.Tensor2D {
    const { tap, segments } = context;
    const onProbabilities = tap && ((value: tf.Tensor3D) => tap(`${this.path}#probabilities`, value));
    if (!caches) return attendSegments(queries, keys, values, segments, this.heads, { mask: context.masks[0], onProbabilities });
    const parts = segments.map(({ start, length }, i) => {
      const cache = caches[i] as KeyValueCache;
      const rows = (t: tf.Tensor2D) => (length === t.shape[0] ? t : tf.slice(t, [start, 0], [length, -1]));
      cache.append(rows(keys), rows(values), context.positions.subarray(start, start + length));
      return cache.attend(rows(queries), { mask: context.masks[i], onProbabilities });
    });
    return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 0);
  }

  output(mixed: tf.Tensor2D): tf.Tensor2D {
    return this.o.apply(mixed);
  }

  probabilities(asking: tf.Tensor2D, keys: tf.Tensor2D, mask: tf.Tensor2D, table?: RotaryTable): tf.Tensor3D {
    return attentionProbabilities(this.queries(asking, table), keys, this.heads, mask);
  }
}

/** One block of Llama (transformers' `LlamaDecoderLayer`): attention and SwiGLU, each behind an RMS norm and around a residual. */
export class LlamaBlock {
  private readonly inputNorm: RmsNorm;
  private readonly attention: LlamaAttention;
  private readonly postNorm: RmsNorm;
  private readonly gate: Linear;
  private readonly up: Linear;
  private readonly down: Linear;
  private readonly gated: ReturnType<typeof gatedProduct>;
  private readonly path: string;
  /** Whether it is of the kind that `FusedOperations.decoderBlock` knows. */
  private readonly plain: boolean;
  private found: { readonly held: unknown; readonly operation: DecoderBlockOperation | undefined } | undefined;

  constructor(parameters: Parameters, shape: LlamaShape, heads: HeadShape, rotary: Rotary) {
    const { hidden_size: width, intermediate_size: inner } = shape;
    const bias = { bias: shape.mlp_bias };
    this.inputNorm = new RmsNorm(parameters.at('input_layernorm'), width, shape.rms_norm_eps);
    this.attention = new LlamaAttention(parameters.at('self_attn'), shape, heads, rotary);
    this.postNorm = new RmsNorm(parameters.at('post_attention_layernorm'), width, shape.rms_norm_eps);
    this.gate = new Linear(parameters.at('mlp').at('gate_proj'), width, inner, bias);
    this.up = new Linear(parameters.at('mlp').at('up_proj'), width, inner, bias);
    this.down = new Linear(parameters.at('mlp').at('down_proj'), inner, width, bias);
    this.gated = gatedProduct(shape.hidden_act);
    this.path = parameters.path;
    this.plain = shape.hidden_act === 'silu' && !shape.attention_bias && !shape.mlp_bias;
  }

  /** x [R, D] -> [R, D]. Without caches, all segments are attended to within themselves (training, tests); they share the first mask. */
  apply(x: tf.Tensor2D, context: BlockContext, caches?: readonly KeyValueCache[]): tf.Tensor2D {
    const whole = this.applyWhole(x, context, caches);
    if (whole) return whole;
    return tf.tidy(() => this.finish(x, this.mix(this.project(x, context.rotary, context.tap), context, caches), context.tap));
  }

  /** `apply` in one operation, where the backend has it: for a few rows of one sequence, or one row of each of several. */
  private applyWhole(x: tf.Tensor2D, { tap, masks, rotary, positions }: BlockContext, caches?: readonly KeyValueCache[]): tf.Tensor2D | undefined {
    const rows = x.shape[0];
    if (tap || rows > FEW_ROWS || !caches?.every((cache) => cache instanceof InPlaceKeyValueCache)) return undefined;
    if (rows === caches.length ? masks.some((mask) => mask !== undefined) : caches.length > 1 || !(masks[0] instanceof CausalMask)) return undefined;
    const operation = this.operation();
    return operation && InPlaceKeyValueCache.extend(caches, positions, (held) => operation(x, rotary, held));
  }

  /** Found again when the weights are others. */
  private operation(): DecoderBlockOperation | undefined {
    if (!this.plain) return undefined;
    const { q, k, v, o } = this.attention;
    const { held } = q.weight;
    if (held === undefined) return undefined;
    if (this.found?.held !== held) {
      const operations = fused();
      if (!operations) return undefined; // asked while gradients are recorded: not the last word
      const matrices = [q, k, v, o, this.gate, this.up, this.down].map(({ weight }) => weight);
      const [inputNorm, postNorm] = [this.inputNorm.weight.value, this.postNorm.weight.value];
      this.found = { held, operation: operations.decoderBlock({ inputNorm, postNorm, epsilon: this.inputNorm.epsilon, matrices }) };
    }
    return this.found.operation;
  }

  /** The first of three parts of `apply`, for callers that pause in between; rows by themselves: [n, D] */
  project(rows: tf.Tensor2D, rotary: RotaryTable, tap?: Tap): ProjectedRows {
    return this.attention.project(this.inputNorm.apply(rows), rotary, tap);
  }

  /** Of `project`, what later rows look at: keys and values [n, keyValueHeads * headDim]. */
  keysAndValues(rows: tf.Tensor2D, rotary: RotaryTable): Pick<ProjectedRows, 'keys' | 'values'> {
    return this.attention.keysAndValues(this.inputNorm.apply(rows), rotary);
  }

  /** Of those, the keys alone; without a table, not turned by their positions. */
  keys(rows: tf.Tensor2D, rotary?: RotaryTable): tf.Tensor2D {
    return this.attention.keys(this.inputNorm.apply(rows), rotary);
  }

  /** Of `project`, what rows look for: [n, heads * headDim] */
  queries(rows: tf.Tensor2D, rotary: RotaryTable): tf.Tensor2D {
    return this.attention.queries(this.inputNorm.apply(rows), rotary);
  }

  /** The second: rows look at what came before them. -> [n, heads * headDim] */
  mix(projected: ProjectedRows, context: BlockContext, caches?: readonly KeyValueCache[]): tf.Tensor2D {
    return tf.tidy(() => this.attention.mix(projected, context, caches));
  }

  /** The third, rows by themselves again: what entered the block [n, D], and what `mix` gave for it -> [n, D] */
  finish(rows: tf.Tensor2D, mixed: tf.Tensor2D, tap?: Tap): tf.Tensor2D {
    return tf.tidy(() => {
      const between = this.between(rows, mixed, tap);
      return this.output(between, this.inner(between), tap);
    });
  }

  /** The parts of `finish`: behind the attention [n, D], */
  between(rows: tf.Tensor2D, mixed: tf.Tensor2D, tap?: Tap): tf.Tensor2D {
    const attended = this.attention.output(mixed);
    tap?.(`${this.path}.self_attn`, attended);
    return tf.add(rows, attended);
  }

  /** through the second norm [n, D], */
  attended(between: tf.Tensor2D): tf.Tensor2D {
    return this.postNorm.apply(between);
  }

  /** inside the gated MLP [n, intermediate], */
  inner(between: tf.Tensor2D): tf.Tensor2D {
    const normed = this.attended(between);
    return this.gated(this.gate.apply(normed), this.up.apply(normed));
  }

  /** and behind it [n, D]. */
  output(between: tf.Tensor2D, inner: tf.Tensor2D, tap?: Tap): tf.Tensor2D {
    const mlp = this.down.apply(inner);
    tap?.(`${this.path}.mlp`, mlp);
    const output = tf.add<tf.Tensor2D>(between, mlp);
    tap?.(this.path, output);
    return output;
  }

  /**
   * Attention of a few rows of the states entering this block over its keys, without the whole map.
   *
   * asking [Q, D], keys [S, keyValueHeads * headDim], the mask is [Q, S]; without a table the queries' position embedding is left out -> [heads, Q, S]
   */
  attentionRows(asking: tf.Tensor2D, keys: tf.Tensor2D, mask: tf.Tensor2D, table?: RotaryTable): tf.Tensor3D {
    return tf.tidy(() => this.attention.probabilities(this.inputNorm.apply(asking), keys, mask, table));
  }
}

/** Llama's decoder with its language-model head (Touvron et al. 2023, https://arxiv.org/abs/2302.13971; transformers' `LlamaForCausalLM`). */
export class Llama {
  readonly blocks: readonly LlamaBlock[];
  readonly rotary: Rotary;
  private readonly heads: HeadShape;
  private readonly embedTokens: Embedding;
  private readonly norm: RmsNorm;
  private readonly head: Embedding | Linear;
  private readonly path: string;

  constructor(
    parameters: Parameters,
    readonly shape: LlamaShape,
  ) {
    const model = parameters.at('model');
    this.path = model.path;
    this.heads = { heads: shape.num_attention_heads, keyValueHeads: shape.num_key_value_heads, headDim: shape.head_dim };
    this.rotary = new Rotary(shape.head_dim, shape.rope_parameters);
    this.embedTokens = model.at('embed_tokens').embedding('weight', shape.vocab_size, shape.hidden_size, { head: shape.tie_word_embeddings });
    const layers = model.at('layers');
    this.blocks = Array.from({ length: shape.num_hidden_layers }, (_, i) => new LlamaBlock(layers.at(String(i)), shape, this.heads, this.rotary));
    this.norm = new RmsNorm(model.at('norm'), shape.hidden_size, shape.rms_norm_eps);
    this.head = shape.tie_word_embeddings
      ? this.embedTokens
      : new Linear(parameters.at('lm_head'), shape.hidden_size, shape.vocab_size, { bias: false });
  }

  /** ids [n] -> [n, D] */
  embed(ids: Int32Array): tf.Tensor2D {
    return this.embedTokens.lookup(ids);
  }

  /** States [R, D] through the last norm. */
  normed(states: tf.Tensor2D): tf.Tensor2D {
    return this.norm.apply(states);
  }

  /** States after the last block [R, D] -> logits [R, vocabulary] */
  logits(states: tf.Tensor2D, tap?: Tap): tf.Tensor2D {
    return tf.tidy(() => {
      const normed = this.normed(states);
      tap?.(`${this.path}.norm`, normed);
      return this.head instanceof Linear ? this.head.apply(normed) : this.head.project(normed);
    });
  }

  /** An empty cache for each block. */
  newCaches(): KeyValueCache[] {
    return this.blocks.map(() => newKeyValueCache(this.heads));
  }
}
