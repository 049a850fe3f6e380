import * as tf from '@tensorflow/tfjs';
import type { ClipVision } from '../layers/clip_vision';
import { PruneError } from '../layers/errors';
import type { Segment } from '../layers/tap';
import type { EncoderReducer, RowGroups } from './prune/merging';

/** Which rows each crop has in the encoder, and which patches are in each row. Without a reducer, all of them stay as they are. */
export class CropRows {
  /** Rows of each crop, the class token's first. */
  segments: readonly Segment[];
  /** By crop, of the rows without the class token's. */
  private patches: readonly (readonly Int32Array[])[];

  constructor(
    private readonly vision: ClipVision,
    crops: number,
    private readonly reducer: EncoderReducer | undefined,
  ) {
    this.segments = vision.segments(crops);
    const alone = Array.from({ length: reducer ? vision.tokens - 1 : 0 }, (_, patch) => Int32Array.of(patch));
    this.patches = this.segments.map(() => alone);
  }

  /** By crop and row, the patches in it; absent without a reducer. */
  get members(): readonly (readonly Int32Array[])[] | undefined {
    return this.reducer ? this.patches : undefined;
  }

  /** Added to the scores of a crop's keys, [1, 1 + n]. Inside a tidy. */
  bias(crop: number): tf.Tensor2D | undefined {
    const rows = this.patches[crop] as readonly Int32Array[];
    if (!this.reducer?.weighted || rows.every(({ length }) => length === 1)) return undefined;
    return tf.tensor2d(Float32Array.of(0, ...rows.map(({ length }) => Math.log(length))), [1, 1 + rows.length]);
  }

  /** Asks the reducer for every crop; returns the rows that are left, or undefined when none were merged. */
  async reduce(
    hook: 'afterAttention' | 'afterBlock',
    block: number,
    states: tf.Tensor2D,
    keysOf: (crop: Segment) => tf.Tensor2D,
  ): Promise<tf.Tensor2D | undefined> {
    if (!this.reducer?.[hook]) return undefined;
    const groups: (RowGroups | undefined)[] = [];
    for (const [crop, segment] of this.segments.entries()) {
      const view = {
        block,
        blocks: this.vision.blocks.length,
        grid: { rows: this.vision.side, columns: this.vision.side },
        states: tf.slice(states, [segment.start, 0], [segment.length, -1]),
        keys: keysOf(segment),
        members: this.patches[crop] as readonly Int32Array[],
      };
      try {
        const asked = await this.reducer[hook]?.(view);
        if (asked) checkGroups(asked, view.members.length, this.reducer.key);
        groups.push(asked);
      } finally {
        tf.dispose([view.states, view.keys]);
      }
    }
    return groups.some((one) => one !== undefined) ? this.carryOut(groups, states) : undefined;
  }

  private carryOut(groups: readonly (RowGroups | undefined)[], states: tf.Tensor2D): tf.Tensor2D {
    const merged = tf.tidy(() => {
      const parts = this.segments.map(({ start, length }, crop) => {
        const rows = tf.slice(states, [start, 0], [length, -1]);
        const one = groups[crop];
        return one ? tf.matMul(this.weights(crop, one), rows) : rows;
      });
      return parts.length === 1 ? (parts[0] as tf.Tensor2D) : (tf.concat(parts, 0) as tf.Tensor2D);
    });
    this.patches = this.patches.map((rows, crop) => {
      const one = groups[crop];
      return one ? regrouped(rows, one) : rows;
    });
    let start = 0;
    this.segments = this.patches.map((rows) => {
      const segment = { start, length: 1 + rows.length };
      start += segment.length;
      return segment;
    });
    return merged;
  }

  /** [1 + rows, 1 + n]: the class token stays; a new row is the mean of its patches. */
  private weights(crop: number, { group, rows }: RowGroups): tf.Tensor2D {
    const before = this.patches[crop] as readonly Int32Array[];
    const sizes = new Float64Array(rows);
    for (const [row, target] of group.entries()) if (target >= 0) sizes[target] = (sizes[target] as number) + (before[row] as Int32Array).length;
    const columns = 1 + before.length;
    const weights = new Float32Array((1 + rows) * columns);
    weights[0] = 1;
    for (const [row, target] of group.entries()) {
      if (target >= 0) weights[(1 + target) * columns + 1 + row] = (before[row] as Int32Array).length / (sizes[target] as number);
    }
    return tf.tensor2d(weights, [1 + rows, columns]);
  }
}

function regrouped(before: readonly Int32Array[], { group, rows }: RowGroups): Int32Array[] {
  const patches: number[][] = Array.from({ length: rows }, () => []);
  for (const [row, target] of group.entries()) if (target >= 0) (patches[target] as number[]).push(...(before[row] as Int32Array));
  return patches.map((one) => Int32Array.from(one).sort());
}

/** @throws PruneError `BAD_REDUCTION` */
function checkGroups({ group, rows }: RowGroups, count: number, key: string): void {
  const seen = new Uint8Array(rows);
  for (const [row, target] of group.entries()) {
    if (target < -1 || target >= rows)
      throw new PruneError('BAD_REDUCTION', `Reducer "${key}" put row ${row} into row ${target} of ${rows}: give -1 (drop) to ${rows - 1}.`);
    if (target >= 0) seen[target] = 1;
  }
  const empty = seen.indexOf(0);
  if (group.length !== count || empty >= 0) {
    throw new PruneError(
      'BAD_REDUCTION',
      `Reducer "${key}" grouped ${group.length} rows of ${count} into ${rows}${empty >= 0 ? `, and row ${empty} has none` : ''}: every row needs a group, every group a row.`,
    );
  }
}
