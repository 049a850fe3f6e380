import * as tf from '@tensorflow/tfjs';
import { causalMask } from './attention';
import { type ClipBlockShape, ClipVisionBlock } from './clip_vision';
import { LayerNorm } from './norm';
import type { Embedding, Parameter, Parameters } from './parameters';
import type { Tap } from './tap';

/** The fields of a checkpoint's `text_config` (transformers' CLIPTextConfig) that the computation needs. */
export interface ClipTextShape extends ClipBlockShape {
  readonly vocab_size: number;
  readonly num_hidden_layers: number;
  readonly max_position_embeddings: number;
  readonly eos_token_id: number;
}

/** What `eos_token_id` is in configurations older than the field's correction, OpenAI's among them: the end is then the largest id. */
const UNCORRECTED_END = 2;

/**
 * The text transformer of CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020; transformers' `CLIPTextModel`): the same blocks as the vision
 * tower's, each token seeing itself and those before it, and the last norm's output at the end-of-text token as the text's vector.
 */
export class ClipText {
  private readonly blocks: readonly ClipVisionBlock[];
  private readonly tokenEmbedding: Embedding;
  private readonly positionEmbedding: Parameter;
  private readonly finalNorm: LayerNorm;
  private readonly path: string;

  constructor(
    parameters: Parameters,
    readonly shape: ClipTextShape,
  ) {
    const { hidden_size: width, max_position_embeddings: context } = shape;
    const embeddings = parameters.at('embeddings');
    this.path = parameters.path;
    this.tokenEmbedding = embeddings.at('token_embedding').embedding('weight', shape.vocab_size, width);
    this.positionEmbedding = embeddings.at('position_embedding').tensor('weight', [context, width]);
    const layers = parameters.at('encoder').at('layers');
    this.blocks = Array.from({ length: shape.num_hidden_layers }, (_, i) => new ClipVisionBlock(layers.at(String(i)), shape));
    this.finalNorm = new LayerNorm(parameters.at('final_layer_norm'), width, shape.layer_norm_eps);
  }

  /** ids [T], at most `max_position_embeddings` of them -> states behind the last norm, [T, W]; the caller disposes it. Without pauses: a text is short. */
  apply(ids: Int32Array, tap?: Tap): tf.Tensor2D {
    return tf.tidy(() => {
      const length = ids.length;
      const positions = tf.slice(this.positionEmbedding.value as tf.Tensor2D, [0, 0], [length, -1]);
      let states: tf.Tensor2D = tf.add(this.tokenEmbedding.lookup(ids), positions);
      tap?.(`${this.path}.embeddings`, states);
      const options = { bias: causalMask(length, length), tap };
      for (const block of this.blocks) states = block.apply(states, [{ start: 0, length }], options).hiddenStates;
      const normed = this.finalNorm.apply(states);
      tap?.(`${this.path}.final_layer_norm`, normed);
      return normed;
    });
  }

  /** The row of `apply` that stands for the text: the first end-of-text token, or the first row where there is none, as transformers has it. */
  pooledRow(ids: Int32Array): number {
    const { eos_token_id: end } = this.shape;
    const row = ids.indexOf(end === UNCORRECTED_END ? ids.reduce((most, id) => Math.max(most, id), 0) : end);
    return Math.max(0, row);
  }
}
