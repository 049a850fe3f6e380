import * as tf from '@tensorflow/tfjs';
import type { AttentionRows, ClipVision, ClipVisionBlock, ClipVisionShape, VisionBlockOutput } from '../layers/clip_vision';
import type { Segment, Tap } from '../layers/tap';
import { columnsOf, fitsStep, inSteps, rowsOf } from './backend/step';
import type { Pacer, Pause } from './pacer';

/** Which attention each block hands over, by its index. */
export type WantedAttention = ReadonlyMap<number, AttentionRows>;

export interface EncoderOutput {
  /** Of all crops, [crops * (1 + N), C]. */
  readonly states: tf.Tensor2D;
  /** By block, then by crop: [heads, N]. */
  readonly attention: ReadonlyMap<number, readonly tf.Tensor2D[]>;
}

/**
 * Runs the encoder on pixels [crops, H, W, channels]: all crops together where a block of them is short, else in steps; a tap sees whole blocks.
 * The caller disposes what it gives.
 */
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
      const whole = tap !== undefined || fitsStep(states.shape[0] * rowFlops(vision.shape, vision.tokens));
      const output: VisionBlockOutput = whole
        ? block.apply(states, crops, rows, tap)
        : await blockInSteps({ block, shape: vision.shape, rows }, states, crops, pacer.pause);
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

/** `block.apply` in steps: the same numbers. */
async function blockInSteps(
  { block, shape, rows }: { readonly block: ClipVisionBlock; readonly shape: ClipVisionShape; readonly rows: AttentionRows | undefined },
  states: tf.Tensor2D,
  crops: readonly Segment[],
  pause: Pause,
): Promise<VisionBlockOutput> {
  const { hidden_size: width, intermediate_size: inner } = shape;
  const count = states.shape[0];
  const owned: tf.Tensor[] = [];
  const own = <T extends tf.Tensor>(tensor: T): T => {
    owned.push(tensor);
    return tensor;
  };
  const attention: tf.Tensor2D[] = [];
  try {
    const project = (start: number, length: number) => {
      const { queries, keys, values } = block.project(rowsOf(states, start, length));
      return tf.concat([queries, keys, values], 1);
    };
    const projected = own(await inSteps(count, 6 * width * width, project, pause)); // [crops * (1 + N), 3 C]
    const mixedParts: tf.Tensor2D[] = [];
    for (const { start, length } of crops) {
      const mixed = tf.tidy(() => {
        const [queries, keys, values] = columnsOf(rowsOf(projected, start, length), [width, width, width]) as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
        const output = block.mix({ queries, keys, values }, [{ start: 0, length }], rows);
        attention.push(...output.attention.map((value) => tf.keep(value)));
        return output.mixed;
      });
      mixedParts.push(own(mixed));
      await pause();
    }
    const mixed = mixedParts.length === 1 ? (mixedParts[0] as tf.Tensor2D) : own(tf.concat(mixedParts, 0));
    const finish = (start: number, length: number) => block.finish(rowsOf(states, start, length), rowsOf(mixed, start, length));
    return { hiddenStates: await inSteps(count, 2 * width * (width + 2 * inner), finish, pause), attention };
  } catch (error) {
    tf.dispose(attention);
    throw error;
  } finally {
    tf.dispose(owned);
  }
}

/** What a row costs in one block, with `keys` rows to attend to. */
function rowFlops({ hidden_size: width, intermediate_size: inner }: ClipVisionShape, keys: number): number {
  return 2 * width * (4 * width + 2 * inner) + 4 * width * keys;
}
