import * as tf from '@tensorflow/tfjs';
import { ClipText } from '../layers/clip_text';
import { ConfigError, PruneError, StateError } from '../layers/errors';
import { Linear } from '../layers/linear';
import { LayerNorm } from '../layers/norm';
import type { Parameters } from '../layers/parameters';
import { type ByteDirectory, readJson } from '../weights/byte_directory';
import { openCheckpoint } from '../weights/checkpoint';
import { CLIP_LAYOUT } from '../weights/layouts';
import { checkOptionNames, type OptionNames } from '../weights/option_names';
import { checkpointSource, type FillProgress, type ParameterSource } from '../weights/sources';
import { type BackendName, useBackend } from './backend/backends';
import { choosePrecision } from './backend/precision';
import { loadTokenizer } from './chat/tokenizer';
import { type ClipConfig, parseClipConfig } from './config/clip';
import { openWhere } from './load';
import { Pacer, type Pause } from './pacer';
import type { RelevanceEncoder } from './prune/cdpruner';

/** Text to ids, with the tokens that begin and end a text. */
export type EncodeText = (text: string) => ArrayLike<number>;

/**
 * The parts of a CLIP (transformers' `CLIPModel`) that put text, and patches of a vision tower that was taken from it, into one space. It does not run
 * the tower: LLaVA has done so. Made by `loadClip`; dispose it.
 */
export class Clip implements RelevanceEncoder {
  private readonly text: ClipText;
  private readonly textProjection: Linear;
  private readonly postNorm: LayerNorm;
  private readonly visualProjection: Linear;
  private disposed = false;

  /** Declares every parameter under `source.root`; they are filled by the source afterwards. */
  constructor(
    readonly name: string,
    readonly config: ClipConfig,
    private readonly source: ParameterSource,
    private readonly encode: EncodeText,
  ) {
    const { text_config: text, vision_config: vision, projection_dim: space } = config;
    const root: Parameters = source.root;
    this.text = new ClipText(root.at('text_model'), text);
    this.textProjection = new Linear(root.at('text_projection'), text.hidden_size, space, { bias: false });
    this.postNorm = new LayerNorm(root.at('vision_model').at('post_layernorm'), vision.hidden_size, vision.layer_norm_eps);
    this.visualProjection = new Linear(root.at('visual_projection'), vision.hidden_size, space, { bias: false });
  }

  /**
   * A text's vectors [pieces, E], not normalised; the caller disposes it. A text longer than the context goes through in pieces of its length, as CDPruner
   * cuts it: only the first has the beginning token and only the last the end, and a piece without an end is pooled where its id is largest.
   */
  async embedText(text: string, pause: Pause = new Pacer().pause): Promise<tf.Tensor2D> {
    this.alive();
    const ids = Int32Array.from(this.encode(text));
    const context = this.config.text_config.max_position_embeddings;
    const pieces: tf.Tensor2D[] = [];
    try {
      for (let start = 0; start < ids.length; start += context) {
        const piece = ids.subarray(start, start + context);
        pieces.push(tf.tidy(() => this.textProjection.apply(tf.slice(this.text.apply(piece), [this.text.pooledRow(piece), 0], [1, -1]))));
        await pause();
      }
      return tf.concat(pieces, 0);
    } finally {
      tf.dispose(pieces);
    }
  }

  /**
   * Features of the tower [N, C], of any block, through its last norm and projection -> [N, E], not normalised; the caller disposes it.
   * @throws PruneError `CLIP_INVALID` when they are of another width
   */
  embedPatches(features: tf.Tensor2D): tf.Tensor2D {
    this.alive();
    const { hidden_size: width } = this.config.vision_config;
    if (features.shape[1] !== width) {
      throw new PruneError(
        'CLIP_INVALID',
        `The features of this model are ${features.shape[1]} wide, the vision tower of ${this.name} is ${width} wide. Load the CLIP that the model's tower was taken from.`,
      );
    }
    return tf.tidy(() => this.visualProjection.apply(this.postNorm.apply(features)));
  }

  /** Frees the weights. Idempotent. */
  dispose(): void {
    this.disposed = true;
    this.source.dispose();
  }

  private alive(): void {
    if (this.disposed) throw new StateError('DISPOSED', `${this.name} is used after dispose().`);
  }
}

export interface LoadClipOptions {
  /** Default `auto`: the one that runs. */
  readonly backend?: BackendName | 'auto';
  /** Called after each tensor. */
  readonly progress?: (progress: FillProgress) => void;
  readonly signal?: AbortSignal;
}

const LOAD_CLIP_OPTIONS: OptionNames<LoadClipOptions> = { backend: true, progress: true, signal: true };

/**
 * Loads the text half of a transformers CLIP directory (config.json, safetensors, tokenizer.json), and of the image half the last norm and the projection,
 * in float32. For LLaVA-1.5 that is openai/clip-vit-large-patch14-336.
 *
 * @param where as for `loadModel`
 * @throws ConfigError, CheckpointError, BackendError: a failure or an abort frees everything that was loaded so far
 *
 * ```ts
 * const clip = await loadClip('openai/clip-vit-large-patch14-336');
 * const answer = await model.ask(image, question, { prune: { method: 'cdpruner', tokens: 64, clip } });
 * clip.dispose();
 * ```
 */
export async function loadClip(where: string | ByteDirectory, options: LoadClipOptions = {}): Promise<Clip> {
  checkOptionNames(options, LOAD_CLIP_OPTIONS, 'loadClip');
  const { signal } = options;
  const directory = typeof where === 'string' ? await openWhere(where) : where;
  const config = parseClipConfig(await readJson(directory, 'config.json', signal), `${directory.name}/config.json`);
  const tokenizer = (await loadTokenizer(directory, signal))?.tokenizer;
  if (!tokenizer) {
    throw new ConfigError(
      'NO_TOKENIZER',
      `${directory.name} has no tokenizer.json, by which CLIP reads text. Save the tokenizer in that form: transformers' AutoTokenizer writes it.`,
    );
  }
  const checkpoint = await openCheckpoint(directory, signal);
  try {
    const { factory } = await choosePrecision('float32', await useBackend(options.backend), 'float32');
    const source = checkpointSource(checkpoint, factory, [CLIP_LAYOUT]);
    const clip = new Clip(directory.name, config, source, (text) => tokenizer.encode(text).ids);
    await source.fill({ progress: options.progress, signal });
    return clip;
  } finally {
    await checkpoint.close();
  }
}
