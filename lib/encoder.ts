import * as tf from '@tensorflow/tfjs';
import {
  type ClipVision,
  type ClipVisionBlock,
  type ClipVisionShape,
  disposeVisionValues,
  type VisionBlockOutput,
  type VisionReads,
  type VisionValues,
} from '../layers/clip_vision';
import type { Segment, Tap } from '../layers/tap';
import { columnsOf, fitsStep, inSteps, rowsOf } from './backend/step';
import { CropRows } from './encoder_reduction';
import type { Pacer, Pause } from './pacer';
import type { EncoderReducer } from './prune/merging';

/** What the encoder is run for. */
export interface EncoderWants {
  /** Blocks that run: as far as the features, or as anything that is read. */
  readonly blocks: number;
  /** The block whose output are the features; -1 for the embeddings. */
  readonly featureBlock: number;
  /** What each block hands over, by its index. */
  readonly reads: ReadonlyMap<number, VisionReads>;
  readonly reducer?: EncoderReducer;
}

export interface EncodedRows {
  /** The feature block's output of all crops, [rows of all crops, C]; the class token is the first row of each. */
  readonly states: tf.Tensor2D;
  readonly crops: readonly Segment[];
  /** By block, then by crop. */
  readonly values: ReadonlyMap<number, readonly VisionValues[]>;
  /** By crop and row, the patches in it; absent where nothing was merged. */
  readonly members?: readonly (readonly Int32Array[])[];
}

/**
 * Runs the encoder on pixels [crops, H, W, channels]: all crops together where a block of them is short, else in steps; a tap sees whole blocks.
 * The caller disposes what it gives.
 */
export async function runEncoder(
  vision: ClipVision,
  pixels: readonly tf.Tensor4D[],
  wants: EncoderWants,
  { pacer, tap }: { pacer: Pacer; tap?: Tap },
): Promise<EncodedRows> {
  const values = new Map<number, readonly VisionValues[]>();
  let states: tf.Tensor2D | undefined;
  let features: Pick<EncodedRows, 'states' | 'crops' | 'members'> | undefined;
  try {
    states = await embed(vision, pixels, pacer.pause, tap);
    const rows = new CropRows(vision, states.shape[0] / vision.tokens, wants.reducer);
    if (wants.featureBlock < 0) features = { states: states.clone(), crops: rows.segments, members: rows.members };
    for (const [k, block] of vision.blocks.slice(0, wants.blocks).entries()) {
      const reads = wants.reads.get(k);
      const short = tap !== undefined || fitsStep(states.shape[0] * rowFlops(vision.shape, vision.tokens));
      const output: VisionBlockOutput =
        short && !wants.reducer
          ? block.apply(states, rows.segments, { reads, tap })
          : await blockInSteps({ block, index: k, shape: vision.shape, rows, reads, tap }, states, pacer.pause);
      states.dispose();
      states = output.hiddenStates;
      if (reads) values.set(k, output.values);
      if (k === wants.featureBlock) features = { states: states.clone(), crops: rows.segments, members: rows.members };
      await pacer.pause();
    }
    states.dispose();
    return { ...(features as NonNullable<typeof features>), values };
  } catch (error) {
    for (const one of values.values()) disposeVisionValues(one);
    tf.dispose([states, features?.states].filter((tensor) => tensor !== undefined));
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

interface SteppedBlock {
  readonly block: ClipVisionBlock;
  readonly index: number;
  readonly shape: ClipVisionShape;
  readonly rows: CropRows;
  readonly reads: VisionReads | undefined;
  readonly tap: Tap | undefined;
}

/** `block.apply` in steps: the same numbers, and rows merged on the way where there is a reducer. */
async function blockInSteps({ block, index, shape, rows, reads, tap }: SteppedBlock, states: tf.Tensor2D, pause: Pause): Promise<VisionBlockOutput> {
  const { hidden_size: width, intermediate_size: inner } = shape;
  const flops = (row: number) => (tap ? 0 : row); // a tap sees whole blocks
  const owned: tf.Tensor[] = [];
  const own = <T extends tf.Tensor>(tensor: T): T => {
    owned.push(tensor);
    return tensor;
  };
  const values: VisionValues[] = [];
  try {
    const project = (start: number, length: number) => {
      const { queries, keys, values } = block.project(rowsOf(states, start, length));
      return tf.concat([queries, keys, values], 1);
    };
    const projected = own(await inSteps(states.shape[0], flops(6 * width * width), project, pause)); // [rows of all crops, 3 C]
    const mixedParts: tf.Tensor2D[] = [];
    for (const [crop, { start, length }] of rows.segments.entries()) {
      const mixed = tf.tidy(() => {
        const [queries, keys, values_] = columnsOf(rowsOf(projected, start, length), [width, width, width]) as [
          tf.Tensor2D,
          tf.Tensor2D,
          tf.Tensor2D,
        ];
        const bias = rows.bias(crop);
        const output = block.mix({ queries, keys, values: values_ }, [{ start: 0, length }], { reads, tap, bias });
        for (const one of output.values) for (const value of Object.values(one)) tf.keep(value);
        values.push(...output.values);
        return output.mixed;
      });
      mixedParts.push(own(mixed));
      await pause();
    }
    const mixed = mixedParts.length === 1 ? (mixedParts[0] as tf.Tensor2D) : own(tf.concat(mixedParts, 0));
    let between = own(
      await inSteps(
        states.shape[0],
        flops(2 * width * width),
        (start, length) => block.between(rowsOf(states, start, length), rowsOf(mixed, start, length), tap),
        pause,
      ),
    );
    const keysOf = ({ start, length }: Segment) => tf.slice(projected, [start, width], [length, width]) as tf.Tensor2D;
    const fewer = await rows.reduce('afterAttention', index, between, keysOf);
    if (fewer) between = own(fewer);
    const output = await inSteps(
      between.shape[0],
      flops(4 * width * inner),
      (start, length) => block.output(rowsOf(between, start, length), tap),
      pause,
    );
    const atEnd = fewer
      ? undefined
      : await rows.reduce('afterBlock', index, output, keysOf).catch((error: unknown) => {
          output.dispose();
          throw error;
        });
    if (!atEnd) return { hiddenStates: output, values };
    output.dispose();
    return { hiddenStates: atEnd, values };
  } catch (error) {
    disposeVisionValues(values);
    throw error;
  } finally {
    tf.dispose(owned);
  }
}

/** What a row costs in one block, with `keys` rows to attend to. */
function rowFlops({ hidden_size: width, intermediate_size: inner }: ClipVisionShape, keys: number): number {
  return 2 * width * (4 * width + 2 * inner) + 4 * width * keys;
}
