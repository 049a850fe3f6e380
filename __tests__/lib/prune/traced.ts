import * as tf from '@tensorflow/tfjs';
import type { Llama } from '../../../layers/llama';
import type { CacheView, DecoderView, Pruner, PruningRun, Reduction } from '../../../lib/prune/types';

/** One reduction that a pruner asked for, in terms of the rows that the sequence had then. */
interface Step {
  readonly block: number;
  readonly hook: 'beforeBlock' | 'afterAttention' | 'afterBlock';
  /** Current rows that go on. */
  readonly stays: readonly boolean[];
  /** Rows that follow the last visual one, each with the current row whose place it takes. */
  readonly merged: readonly { readonly state: Float32Array; readonly place: number }[];
  readonly lastVisual: number;
}

/** What a pruner did to one sequence. */
export class Trace {
  /** Embeddings that entered block 0, [S, D]. */
  states: tf.Tensor2D | undefined;
  readonly steps: Step[] = [];
  /** Sequence rows of the visual tokens that entered block 0. */
  visualRows: Int32Array = new Int32Array(0);
  /** Their position ids, all rows'. */
  positions: Int32Array = new Int32Array(0);
  /** By block, rows that its cache forgot after prefill. */
  readonly forgotten: Map<number, Set<number>> = new Map();

  /** Caches whose cuts are written down. */
  noting(caches: CacheView): CacheView {
    return {
      blocks: caches.blocks,
      visualTokens: (block) => caches.visualTokens(block),
      retain: (block, keep) => {
        const held = caches.visualTokens(block);
        const forgotten = this.forgotten.get(block) ?? new Set();
        for (const [i, token] of held.entries()) if (token >= 0 && !keep.includes(i)) forgotten.add(this.visualRows[token] as number);
        this.forgotten.set(block, forgotten);
        caches.retain(block, keep);
      },
    };
  }

  dispose(): void {
    this.states?.dispose();
  }
}

/** The same pruner, but what it does inside the decoder is written down. */
export function traced(pruner: Pruner): { readonly pruner: Pruner; readonly traces: Trace[] } {
  const traces: Trace[] = [];
  const begin: Pruner['begin'] = (request) => {
    const run = pruner.begin(request);
    const trace = new Trace();
    traces.push(trace);
    const noting = (hook: Step['hook']) => async (view: DecoderView) => {
      if (hook === 'beforeBlock' && view.block === 0) {
        trace.states = tf.keep(tf.clone(view.states));
        trace.visualRows = view.visualRows;
        trace.positions = view.positions;
      }
      const reduction = await run[hook]?.(view);
      if (reduction) trace.steps.push(await stepOf(hook, view, reduction));
      return reduction;
    };
    const noted: PruningRun = {
      ...(run.select ? { select: (view) => (run.select as NonNullable<PruningRun['select']>)(view) } : {}),
      beforeBlock: noting('beforeBlock'),
      ...(run.afterAttention ? { afterAttention: noting('afterAttention') } : {}),
      ...(run.afterBlock ? { afterBlock: noting('afterBlock') } : {}),
      ...(run.afterPrefill ? { afterPrefill: (caches) => (run.afterPrefill as NonNullable<PruningRun['afterPrefill']>)(trace.noting(caches)) } : {}),
      dispose: () => run.dispose(),
    };
    return noted;
  };
  return { pruner: { ...pruner, needs: (encoder) => pruner.needs(encoder), enteringTokens: (n, l) => pruner.enteringTokens(n, l), begin }, traces };
}

async function stepOf(hook: Step['hook'], view: DecoderView, { keep, merged }: Reduction): Promise<Step> {
  const stays = new Array<boolean>(view.sequenceLength).fill(true);
  for (const row of view.visualRows) stays[row] = row === view.sequenceLength - 1;
  for (const index of keep) stays[view.visualRows[index] as number] = true;
  const values = merged ? Float32Array.from(await merged.states.data()) : new Float32Array(0);
  const width = merged?.states.shape[1] ?? 0;
  const added = Array.from(merged?.places ?? [], (place, i) => ({
    state: values.slice(i * width, (i + 1) * width),
    place: view.visualRows[place] as number,
  }));
  return { block: view.block, hook, stays, merged: added, lastVisual: view.visualRows.at(-1) ?? -1 };
}

/**
 * The last row's state [1, D] as a decoder without caches gets it that drops nothing at all: rows of every kind stay to the end, and a mask hides from each block
 * those that the pruner had dropped by then. Later tokens (rows of `states` behind the trace's) see what their block's cache would hold.
 *
 * @param later embeddings [n, D] of tokens behind the prompt; -> states of the prompt's last row and of each later one, [1 + n, D]
 */
export function withoutDropping(llama: Llama, trace: Trace, later: tf.Tensor2D, positions: 'keep' | 'compact'): tf.Tensor2D {
  return tf.tidy(() => {
    const prompt = trace.states as tf.Tensor2D;
    const width = prompt.shape[1];
    const count = later.shape[0];
    let order = Array.from({ length: prompt.shape[0] }, (_, i) => i); // rows that are in the sequence, by their row of `rows`
    const places = Array.from(trace.positions); // by row of `rows`
    let rows = prompt;
    let tail = later;
    const apply = (step: Step) => {
      const next: number[] = [];
      for (const [i, row] of order.entries()) {
        if (step.stays[i]) next.push(row);
        if (i !== step.lastVisual) continue;
        for (const { state, place } of step.merged) {
          next.push(rows.shape[0]);
          places.push(places[order[place] as number] as number);
          rows = tf.concat([rows, tf.tensor2d(state, [1, width])], 0);
        }
      }
      order = next;
    };
    for (const [k, block] of llama.blocks.entries()) {
      for (const step of trace.steps) if (step.block === k && step.hook === 'beforeBlock') apply(step);
      const all = tf.concat([rows, tail], 0);
      const length = rows.shape[0];
      const rank = new Map(order.map((row, i) => [row, i]));
      const mask = new Float32Array(all.shape[0] ** 2).fill(-1e9);
      for (let query = 0; query < all.shape[0]; query++) {
        const own = rank.get(query);
        mask[query * all.shape[0] + query] = 0;
        for (let key = 0; key < all.shape[0]; key++) {
          const at = rank.get(key);
          const behind = key >= length ? key <= query : at !== undefined && !trace.forgotten.get(k)?.has(key);
          const inside = own !== undefined && at !== undefined && at <= own;
          if (query < length ? inside : behind) mask[query * all.shape[0] + key] = 0;
        }
      }
      const entered = (trace.positions.at(-1) as number) + 1;
      const ids = Int32Array.from({ length: all.shape[0] }, (_, row) => {
        if (row >= length) return (positions === 'keep' ? entered : order.length) + row - length;
        return positions === 'keep' ? (places[row] as number) : (rank.get(row) ?? 0);
      });
      const out = block.apply(all, {
        segments: [{ start: 0, length: all.shape[0] }],
        masks: [tf.tensor2d(mask, [all.shape[0], all.shape[0]])],
        positions: ids,
        rotary: llama.rotary.table(ids),
      });
      rows = tf.slice(out, [0, 0], [length, -1]);
      tail = tf.slice(out, [length, 0], [count, -1]);
      for (const step of trace.steps) if (step.block === k && step.hook !== 'beforeBlock') apply(step);
    }
    return tf.concat([tf.slice(rows, [order.at(-1) as number, 0], [1, -1]), tail], 0);
  });
}
