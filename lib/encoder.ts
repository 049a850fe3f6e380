import * as tf from '@tensorflow/tfjs';
import type { AttentionRows, ClipVision, ClipVisionBlock, ClipVisionShape, KeysAndValues, VisionBlockOutput } from '../layers/clip_vision';
import type { Segment, Tap } from '../layers/tap';
import { fitsStep, inSteps } from './backend/step';
import type { Pacer, Pause } from './pacer';

/** Which attention each block hands over, by its index. */
export type WantedAttention = ReadonlyMap<number, AttentionRows>;

export interface EncoderOutput {
  /** Of all crops, [crops * (1 + N), C]. */
  readonly states: tf.Tensor2D;
  /** By block, then by crop: [heads, N]. */
  readonly attention: ReadonlyMap<number, readonly tf.Tensor2D[]>;
}

/** Runs the encoder on pixels [crops, H, W, channels], all crops together, where a block of them is short; else in steps. The caller disposes it all. */
export async function runEncoder(
  vision: ClipVision,
  pixels: readonly tf.Tensor4D[],
  wanted: WantedAttention,
  { pacer, tap }: { pacer: Pacer; tap?: Tap },
): Promise<EncoderOutput> {
  const attention = new Map<number, readonly tf.Tensor2D[]>();
  let states: tf.Tensor2D | undefined;
  try {
    states = await embed(vision, pixels, pacer.pause, tap);
    const crops = vision.segments(states.shape[0] / vision.tokens);
    for (const [k, block] of vision.blocks.entries()) {
      const rows = wanted.get(k);
      // Attention received by each patch is a mean over all rows, and a tap sees whole blocks.
      const whole = tap !== undefined || rows === 'received' || fitsStep(states.shape[0] * rowFlops(vision.shape, vision.tokens));
      const output: VisionBlockOutput = whole
        ? block.apply(states, crops, rows, tap)
        : await blockInSteps(block, states, crops, { shape: vision.shape, classRows: rows === 'class', pause: pacer.pause });
      states.dispose();
      states = output.hiddenStates;
      if (rows) attention.set(k, output.attention);
      await pacer.pause();
    }
    return { states, attention };
  } catch (error) {
    tf.dispose([...attention.values()].flat());
    states?.dispose();
    throw error;
  }
}

/** [crops * (1 + N), C] */
async function embed(vision: ClipVision, pixels: readonly tf.Tensor4D[], pause: Pause, tap?: Tap): Promise<tf.Tensor2D> {
  const { hidden_size: width, patch_size: patch, num_channels: channels } = vision.shape;
  const crops = pixels.reduce((sum, { shape }) => sum + shape[0], 0);
  if (tap || fitsStep(crops * vision.tokens * 2 * patch * patch * channels * width)) {
    return tf.tidy(() => vision.embed(pixels.length === 1 ? (pixels[0] as tf.Tensor4D) : tf.concat([...pixels], 0), tap));
  }
  const parts: tf.Tensor2D[] = [];
  try {
    for (const image of pixels) {
      for (let crop = 0; crop < image.shape[0]; crop++) {
        parts.push(tf.tidy(() => vision.embed(tf.slice(image, [crop, 0, 0, 0], [1, -1, -1, -1]))));
        await pause();
      }
    }
    return tf.concat(parts, 0);
  } finally {
    tf.dispose(parts);
  }
}

interface StepOptions {
  readonly shape: ClipVisionShape;
  readonly classRows: boolean;
  readonly pause: Pause;
}

/** `block.apply`, crop by crop and rows by rows: the same numbers. */
async function blockInSteps(
  block: ClipVisionBlock,
  states: tf.Tensor2D,
  crops: readonly Segment[],
  options: StepOptions,
): Promise<VisionBlockOutput> {
  const outputs: tf.Tensor2D[] = [];
  const attention: tf.Tensor2D[] = [];
  try {
    for (const { start, length } of crops) {
      const x = tf.slice(states, [start, 0], [length, -1]);
      let all: KeysAndValues | undefined;
      try {
        all = await keysAndValues(block, x, options);
        const known = all;
        if (options.classRows) attention.push(tf.tidy(() => block.classAttention(tf.slice(x, [0, 0], [1, -1]), known)));
        outputs.push(await inSteps(x, rowFlops(options.shape, length), (rows) => block.applyRows(rows, known), options.pause));
      } finally {
        x.dispose();
        tf.dispose({ ...all });
      }
    }
    return { hiddenStates: tf.concat(outputs, 0), attention };
  } catch (error) {
    tf.dispose(attention);
    throw error;
  } finally {
    tf.dispose(outputs);
  }
}

/** Of all rows of a crop, in steps. */
async function keysAndValues(block: ClipVisionBlock, x: tf.Tensor2D, { shape, pause }: StepOptions): Promise<KeysAndValues> {
  const { hidden_size: width } = shape;
  const both = await inSteps(
    x,
    4 * width * width,
    (rows) => {
      const { keys, values } = block.keysAndValues(rows);
      return tf.concat([keys, values], 1);
    },
    pause,
  ); // [1 + N, 2 C]
  const [keys, values] = tf.split(both, 2, 1) as [tf.Tensor2D, tf.Tensor2D];
  both.dispose();
  return { keys, values };
}

/** What a row costs in one block, with `keys` rows to attend to. */
function rowFlops({ hidden_size: width, intermediate_size: inner }: ClipVisionShape, keys: number): number {
  return 2 * width * (4 * width + 2 * inner) + 4 * width * keys;
}
