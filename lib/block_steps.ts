import * as tf from '@tensorflow/tfjs';
import type { KeyValueCache } from '../layers/kv_cache';
import type { LlamaBlock, LlamaShape } from '../layers/llama';
import type { Tap } from '../layers/tap';
import { columnsOf, gatherRows, inSteps, rowsOf } from './backend/step';
import { lastRowsOf } from './live';
import type { Pause } from './pacer';
import { type SharedContext, widthsOf } from './pass_context';

/** A block, and what the rows that go through it have in common. */
export interface SteppedBlock {
  readonly block: LlamaBlock;
  readonly shape: LlamaShape;
  readonly shared: SharedContext;
  readonly caches: readonly KeyValueCache[];
}

/** Of rows behind the attention and its residual, [R, D], those that go on, or undefined when all do. */
export type RowFilter = (between: tf.Tensor2D) => Promise<tf.Tensor2D | undefined>;

/** `block.apply` in steps. A later part of the rows sees what earlier ones put into the caches. With `filter`, some rows end behind the attention. */
export async function blockInSteps(
  { block, shape, shared, caches }: SteppedBlock,
  states: tf.Tensor2D,
  pause: Pause,
  filter?: RowFilter,
): Promise<tf.Tensor2D> {
  const { width, queryWidth, keyWidth } = widthsOf(shape);
  const count = states.shape[0];
  const tap = shared.whole?.tap; // sees whole blocks
  const owned: tf.Tensor[] = [];
  const own = <T extends tf.Tensor>(tensor: T): T => {
    owned.push(tensor);
    return tensor;
  };
  try {
    const project = (start: number, length: number) => {
      const { queries, keys, values } = block.project(rowsOf(states, start, length), shared.rotaryOf(start, length), tap);
      return tf.concat([queries, keys, values], 1);
    };
    const projected = own(await inSteps(count, tap ? 0 : 2 * width * (queryWidth + 2 * keyWidth), project, pause));
    const mixedParts: tf.Tensor2D[] = [];
    for (const { start, length, context, sequences } of shared.parts) {
      const mixed = tf.tidy(() => {
        const columns = columnsOf(rowsOf(projected, start, length), [queryWidth, keyWidth, keyWidth]);
        const [queries, keys, values] = columns as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
        const own = sequences.map((i) => caches[i] as KeyValueCache);
        return block.mix({ queries, keys, values }, { ...context, rotary: shared.rotary, tap }, own);
      });
      mixedParts.push(own(mixed));
      await pause();
    }
    const mixed = mixedParts.length === 1 ? (mixedParts[0] as tf.Tensor2D) : own(tf.concat(mixedParts, 0));
    return await finishInSteps({ block, shape, tap }, states, mixed, pause, filter);
  } finally {
    tf.dispose(owned);
  }
}

/** What `block.apply` gives of each sequence's last row, [sequences, D]; of the others it computes what the caches are to hold. */
export async function lastRowsOfBlock({ block, shape, shared, caches }: SteppedBlock, states: tf.Tensor2D, pause: Pause): Promise<tf.Tensor2D> {
  const { width, keyWidth } = widthsOf(shape);
  const { segments } = shared;
  const owned: tf.Tensor[] = [];
  const own = <T extends tf.Tensor>(tensor: T): T => {
    owned.push(tensor);
    return tensor;
  };
  try {
    const project = (start: number, length: number) => {
      const { keys, values } = block.keysAndValues(rowsOf(states, start, length), shared.rotaryOf(start, length));
      return tf.concat([keys, values], 1);
    };
    const projected = own(await inSteps(states.shape[0], 4 * width * keyWidth, project, pause));
    const last = lastRowsOf(segments);
    const rows = own(gatherRows(states, last));
    const mixed = own(
      tf.tidy(() => {
        const queries = block.queries(rows, shared.rotaryAt(last));
        const [keys, values] = columnsOf(projected, [keyWidth, keyWidth]) as [tf.Tensor2D, tf.Tensor2D];
        const parts = segments.map(({ start, length }, i) => {
          const cache = caches[i] as KeyValueCache;
          cache.append(rowsOf(keys, start, length), rowsOf(values, start, length), shared.positions.subarray(start, start + length));
          return cache.attend(rowsOf(queries, i, 1));
        });
        return parts.length === 1 ? (parts[0] as tf.Tensor2D) : tf.concat(parts, 0);
      }),
    );
    await pause();
    return await finishInSteps({ block, shape }, rows, mixed, pause);
  } finally {
    tf.dispose(owned);
  }
}

/** `block.finish`, a part of it at a time: few rows in one step would read its weights for little. */
async function finishInSteps(
  { block, shape, tap }: Pick<SteppedBlock, 'block' | 'shape'> & { readonly tap?: Tap },
  states: tf.Tensor2D,
  mixed: tf.Tensor2D,
  pause: Pause,
  filter?: RowFilter,
): Promise<tf.Tensor2D> {
  const { width, queryWidth } = widthsOf(shape);
  const inner = 2 * width * shape.intermediate_size;
  const flops = (row: number) => (tap ? 0 : row);
  const owned: tf.Tensor2D[] = [];
  const own = (tensor: tf.Tensor2D): tf.Tensor2D => {
    owned.push(tensor);
    return tensor;
  };
  try {
    const join = (start: number, length: number) => block.between(rowsOf(states, start, length), rowsOf(mixed, start, length), tap);
    const all = own(await inSteps(states.shape[0], flops(2 * width * queryWidth), join, pause));
    const fewer = await filter?.(all);
    const between = fewer ? own(fewer) : all;
    const count = between.shape[0];
    const gated = own(await inSteps(count, flops(2 * inner), (start, length) => block.inner(rowsOf(between, start, length)), pause));
    const output = (start: number, length: number) => block.output(rowsOf(between, start, length), rowsOf(gated, start, length), tap);
    return await inSteps(count, flops(inner), output, pause);
  } finally {
    tf.dispose(owned);
  }
}
