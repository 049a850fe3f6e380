import * as tf from '@tensorflow/tfjs';
import { Llama, type LlamaShape } from '../../../layers/llama';
import type { Tap } from '../../../layers/tap';
import type { BackendName } from '../../../lib/backend/backends';
import { decodeStep, prefill } from '../../../lib/decoder';
import { Pacer } from '../../../lib/pacer';
import type { PruningRun } from '../../../lib/prune/types';
import { Random } from '../../../lib/random';
import { Sequence } from '../../../lib/sequence';
import { useBackend } from '../../support/backends';
import { expectClose } from '../../support/compare';
import { HeldParameters } from '../../support/held_parameters';

/** Grouped queries, and enough blocks to drop tokens between. */
export const SHAPE: LlamaShape = {
  vocab_size: 40,
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 5,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: true,
  rope_parameters: { rope_type: 'default', rope_theta: 10000 },
};

/** Seeded weights, scaled by fan-in; queries and keys larger, so that attention prefers some tokens clearly. */
export function tinyDecoder(seed: number): { llama: Llama; dispose(): void } {
  const { hidden_size: width, intermediate_size: inner, vocab_size: vocabulary } = SHAPE;
  const queryWidth = SHAPE.num_attention_heads * SHAPE.head_dim;
  const keyWidth = SHAPE.num_key_value_heads * SHAPE.head_dim;
  const shapes: Record<string, readonly [number, number]> = {
    q_proj: [queryWidth, width],
    k_proj: [keyWidth, width],
    v_proj: [keyWidth, width],
    o_proj: [width, queryWidth],
    gate_proj: [inner, width],
    up_proj: [inner, width],
    down_proj: [width, inner],
    embed_tokens: [vocabulary, width],
  };
  const random = new Random(seed);
  const parameters = new HeldParameters((name) => {
    const module = name.split('.').at(-2) as string;
    const shape = shapes[module];
    if (!shape) return { shape: [width], values: Float32Array.from({ length: width }, () => 1 + 0.1 * random.normal()) };
    const scale = (module === 'q_proj' || module === 'k_proj' ? 2 : 1) / Math.sqrt(shape[1]);
    return { shape, values: Float32Array.from({ length: shape[0] * shape[1] }, () => scale * random.normal()) };
  });
  return { llama: new Llama(parameters, SHAPE), dispose: () => parameters.dispose() };
}

/** Seeded embeddings [rows, D]. */
export function embeddings(rows: number, seed: number): tf.Tensor2D {
  const random = new Random(seed);
  return tf.tensor2d(
    Float32Array.from({ length: rows * SHAPE.hidden_size }, () => random.normal()),
    [rows, SHAPE.hidden_size],
  );
}

/** What one block of the dense decoder hides and how it numbers the rows. */
export interface DenseBlock {
  readonly hidden: ReadonlySet<number>;
  readonly positions: 'keep' | 'compact';
}

/**
 * The decoder without any dropping or cache: all rows go through all blocks, and a mask hides from block k on what would have been dropped before it.
 * Rows that are not hidden see the same tokens at the same positions as they do when the others are really gone.
 */
export function dense(llama: Llama, states: tf.Tensor2D, blocks: readonly DenseBlock[], tap?: Tap): tf.Tensor2D {
  return tf.tidy(() => {
    const length = states.shape[0];
    let rows = states;
    for (const [k, block] of llama.blocks.entries()) {
      const { hidden, positions: policy } = blocks[k] as DenseBlock;
      const mask = tf.tensor2d(
        Float32Array.from({ length: length * length }, (_, at) => (at % length > Math.floor(at / length) || hidden.has(at % length) ? -1e9 : 0)),
        [length, length],
      );
      let next = 0;
      const compact = Int32Array.from({ length }, (_, row) => (hidden.has(row) ? 0 : next++));
      const positions = policy === 'keep' ? Int32Array.from({ length }, (_, row) => row) : compact;
      rows = block.apply(rows, { segments: [{ start: 0, length }], masks: [mask], positions, rotary: llama.rotary.table(positions), tap });
    }
    return rows;
  });
}

/** Text, 20 visual tokens, text. */
export const LENGTH = 30;
export const VISUAL: Int32Array = Int32Array.from({ length: 20 }, (_, i) => 4 + i);

/** One sequence after prefill and some decoded tokens. */
export interface Outcome {
  /** After prefill: the rows that are left, and how many visual tokens entered each block. */
  readonly states: tf.Tensor2D;
  readonly entering: readonly number[];
  /** The state of each decoded token. */
  readonly decoded: readonly tf.Tensor2D[];
  /** Tokens that each block's cache holds in the end. */
  readonly cached: readonly number[];
}

/** The decoder's own way: prefill [S, D] with pruning, then embeddings [n, D], one by one or, as a chat's next turn is, in a second prefill. */
export async function decode(
  llama: Llama,
  states: tf.Tensor2D,
  steps: tf.Tensor2D,
  pruning?: { run: PruningRun; positions: 'keep' | 'compact' },
  later: 'one by one' | 'together' = 'one by one',
): Promise<Outcome> {
  const pacer = new Pacer();
  const sequence = new Sequence(llama.newCaches(), pruning?.positions);
  const result = await prefill(llama, [{ sequence, states, visualRows: VISUAL, pruning: pruning && { run: pruning.run, blockInput: true } }], {
    pacer,
  });
  const decoded: tf.Tensor2D[] = [];
  if (later === 'together') {
    const turn = await prefill(llama, [{ sequence, states: steps, visualRows: new Int32Array(0) }], { pacer });
    decoded.push(...(tf.split(turn.states, steps.shape[0]) as tf.Tensor2D[]));
    turn.states.dispose();
  } else {
    for (const embedding of tf.split(steps, steps.shape[0]) as tf.Tensor2D[]) {
      decoded.push(await decodeStep(llama, embedding, [sequence], { pacer }));
      embedding.dispose();
    }
  }
  const cached = sequence.caches.map((cache) => cache.length);
  sequence.dispose();
  return { states: result.states, entering: result.enteringTokens[0] as number[], decoded, cached };
}

/** Fails unless all rows that are left, and every decoded state, are those of the dense decoder. */
export async function expectDense(
  llama: Llama,
  outcome: Outcome,
  states: tf.Tensor2D,
  steps: tf.Tensor2D,
  blocks: readonly DenseBlock[],
): Promise<void> {
  const hidden = blocks.at(-1)?.hidden ?? new Set();
  const left = Array.from({ length: states.shape[0] }, (_, row) => row).filter((row) => !hidden.has(row));
  const whole = tf.tidy(() => dense(llama, tf.concat([states, steps], 0), blocks));
  const rows = tf.tidy(() => tf.gather(whole, tf.tensor1d(left, 'int32')));
  const later = tf.tidy(() => tf.split(tf.slice(whole, [states.shape[0], 0], [-1, -1]), steps.shape[0]));
  try {
    await expectClose(outcome.states, rows, 'states after prefill');
    for (const [i, state] of outcome.decoded.entries()) await expectClose(state, later[i] as tf.Tensor2D, `state of decoded token ${i}`);
  } finally {
    tf.dispose([whole, rows, ...later]);
  }
}

export function disposeOutcome({ states, decoded }: Outcome): void {
  tf.dispose([states, ...decoded]);
}

/** What tests of the decoder's loop share. */
export interface TinySetUp {
  readonly llama: Llama;
  /** Embeddings of a prompt [LENGTH, D], and of three tokens behind it. */
  readonly states: tf.Tensor2D;
  readonly steps: tf.Tensor2D;
}

/** Makes it anew for the tests of a `describe`, which may leave no tensor behind. */
export function withTinyDecoder(backend: BackendName, seed: number, take: (made: TinySetUp) => void): void {
  let dispose: () => void;
  let tensors: number;
  beforeAll(async () => {
    await useBackend(backend);
    const decoder = tinyDecoder(seed);
    const [states, steps] = [embeddings(LENGTH, seed + 1), embeddings(3, seed + 2)];
    dispose = () => {
      decoder.dispose();
      tf.dispose([states, steps]);
    };
    take({ llama: decoder.llama, states, steps });
  });
  beforeEach(() => {
    tensors = tf.memory().numTensors;
  });
  afterEach(() => expect(tf.memory().numTensors).toBe(tensors));
  afterAll(() => dispose());
}
