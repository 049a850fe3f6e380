import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import type { Llama } from '../../../layers/llama';
import { prefill } from '../../../lib/decoder';
import type { ReductionHook } from '../../../lib/live';
import { Pacer } from '../../../lib/pacer';
import { createPruner } from '../../../lib/prune/registry';
import type { DecoderView, PruningRun, Reduction } from '../../../lib/prune/types';
import { Sequence } from '../../../lib/sequence';
import { BACKENDS } from '../../support/backends';
import { expectClose, expectSame } from '../../support/compare';
import { type DenseBlock, decode, dense, disposeOutcome, embeddings, expectDense, LENGTH, SHAPE, VISUAL, withTinyDecoder } from './tiny_decoder';
import { clip, request } from './views';

const BLOCKS = SHAPE.num_hidden_layers;
const NOTHING_HIDDEN = new Array<DenseBlock>(BLOCKS).fill({ hidden: new Set(), positions: 'keep' });

const fastV = (tokens: number, layer: number, patches: number = VISUAL.length): PruningRun =>
  createPruner({ method: 'fastv', tokens, layer }).begin(request([patches], clip, BLOCKS));

/** Hides all visual rows but `kept` from block `layer` on. */
function hiding(kept: readonly number[], layer: number): DenseBlock[] {
  const hidden = new Set(VISUAL.filter((row) => !kept.includes(row)));
  return NOTHING_HIDDEN.map((nothing, block) => (block < layer ? nothing : { hidden, positions: 'keep' }));
}

describe.each(BACKENDS)('dropping visual tokens inside the decoder, on %s', (backend) => {
  let llama: Llama;
  let states: tf.Tensor2D;
  let steps: tf.Tensor2D;
  withTinyDecoder(backend, 5, (made) => ({ llama, states, steps } = made));

  /** Rows of the visual tokens with the highest attention of the last row in block `layer - 1`, from the dense decoder's own map. */
  async function mostAttended(tokens: number, layer: number): Promise<number[]> {
    let map: tf.Tensor | undefined;
    const tap = (name: string, value: tf.Tensor) => {
      if (name.endsWith(`layers.${layer - 1}.self_attn#probabilities`)) map = tf.keep(value.clone());
    };
    tf.dispose(dense(llama, states, NOTHING_HIDDEN, tap));
    const probabilities = (await map?.array()) as number[][][]; // [heads, S, S]
    map?.dispose();
    const sum = (column: number) => probabilities.reduce((total, head) => total + (head[LENGTH - 1]?.[column] as number), 0);
    const ranked = Array.from(VISUAL).sort((a, b) => sum(b) - sum(a));
    return ranked.slice(0, tokens).sort((a, b) => a - b);
  }

  it.each([
    [7, 2],
    [1, 1],
    [19, 4],
  ])('FastV that keeps %i before block %i equals a mask over the others, with a cache as without', async (tokens, layer) => {
    const outcome = await decode(llama, states, steps, { run: fastV(tokens, layer), positions: 'keep' });
    await expectDense(llama, outcome, states, steps, hiding(await mostAttended(tokens, layer), layer));
    disposeOutcome(outcome);
  });

  it('another choice of one token would be seen: the last state differs', async () => {
    const kept = await mostAttended(7, 2);
    const others = VISUAL.filter((row) => !kept.includes(row));
    const [right, wrong] = [hiding(kept, 2), hiding([...kept.slice(1), others[0] as number], 2)].map((blocks) => dense(llama, states, blocks));
    const last = (x: tf.Tensor2D | undefined) => tf.slice(x as tf.Tensor2D, [LENGTH - 1, 0], [1, -1]);
    const rows = [last(right), last(wrong)] as const;
    await expect(expectClose(rows[0], rows[1], 'last state')).rejects.toThrow('differ');
    tf.dispose([right, wrong, ...rows] as tf.Tensor[]);
  });

  it('keeping all equals the plain decoder bit by bit', async () => {
    const all = (view: DecoderView) => Promise.resolve({ keep: Int32Array.from(view.visualRows.keys()) });
    const plain = await decode(llama, states, steps);
    for (const run of [{ beforeBlock: all, afterBlock: all, dispose() {} }, fastV(VISUAL.length, 2)]) {
      const kept = await decode(llama, states, steps, { run, positions: 'keep' });
      await expectSame(kept.states, plain.states, 'states after prefill');
      for (const [i, state] of kept.decoded.entries()) await expectSame(state, plain.decoded[i] as tf.Tensor2D, `state of decoded token ${i}`);
      expect(kept.entering).toEqual(plain.entering);
      disposeOutcome(kept);
    }
    disposeOutcome(plain);
  });

  it.each([
    [7, 2],
    [3, 4],
  ])('as many tokens enter and stay in the cache of each block as the formula says: FastV, %i before block %i', async (tokens, layer) => {
    const outcome = await decode(llama, states, steps, { run: fastV(tokens, layer), positions: 'keep' });
    const entering = createPruner({ method: 'fastv', tokens, layer }).enteringTokens(VISUAL.length, BLOCKS) ?? [];
    expect(outcome.entering).toEqual(entering);
    expect(outcome.cached).toEqual(entering.map((count) => LENGTH - VISUAL.length + count + steps.shape[0]));
    const average = entering.reduce((sum, count) => sum + count, 0) / BLOCKS;
    expect(average).toBeCloseTo((layer * VISUAL.length + (BLOCKS - layer) * tokens) / BLOCKS, 10);
    disposeOutcome(outcome);
  });

  it('packed sequences of different lengths get what each gets alone', async () => {
    const other = embeddings(17, 8);
    const requests = [
      { states, visualRows: VISUAL, tokens: 5 },
      { states: other, visualRows: Int32Array.from({ length: 9 }, (_, i) => 1 + i), tokens: 2 },
    ];
    const pass = async (group: typeof requests) => {
      const inputs = group.map(({ tokens, ...input }) => ({
        ...input,
        sequence: new Sequence(llama.newCaches()),
        pruning: { run: fastV(tokens, 2, input.visualRows.length), blockInput: true },
      }));
      const result = await prefill(llama, inputs, { pacer: new Pacer() });
      for (const { sequence } of inputs) sequence.dispose();
      return result;
    };
    const together = await pass(requests);
    const alone = [await pass(requests.slice(0, 1)), await pass(requests.slice(1))];
    const parts = tf.split(
      together.states,
      together.segments.map(({ length }) => length),
    );
    for (const [i, part] of parts.entries()) await expectClose(part, alone[i]?.states as tf.Tensor2D, `sequence ${i}`, 1e-5);
    expect(together.enteringTokens).toEqual(alone.flatMap((one) => one.enteringTokens));
    tf.dispose([other, together.states, ...parts, ...alone.map((one) => one.states)]);
  });

  const schedules = fc.uniqueArray(
    fc.record({
      block: fc.integer({ min: 0, max: BLOCKS - 1 }),
      hook: fc.constantFrom('beforeBlock' as const, 'afterAttention' as const, 'afterBlock' as const),
      kept: fc.subarray(Array.from(VISUAL.keys())),
    }),
    { minLength: 1, maxLength: 4, selector: ({ block, hook }) => `${hook} ${block}` },
  );

  const policies = fc.constantFrom('keep' as const, 'compact' as const);
  const turns = fc.constantFrom('one by one' as const, 'together' as const);

  it('any schedule of drops, with gaps or closed up, equals hiding what was dropped, also for the next tokens or turn', async () => {
    const before = tf.memory().numTensors;
    await fc.assert(
      fc.asyncProperty(schedules, policies, turns, async (schedule, positions, later) => {
        const outcome = await decode(llama, states, steps, { run: scheduled(schedule), positions }, later);
        const blocks = NOTHING_HIDDEN.map((_, block) => {
          const past = schedule.filter((drop) => drop.block < block || (drop.block === block && drop.hook === 'beforeBlock'));
          const hidden = new Set(VISUAL.filter((_, index) => past.some(({ kept }) => !kept.includes(index))));
          return { hidden, positions };
        });
        const dropsAfterTheLast = schedule.some(({ block, hook }) => block === BLOCKS - 1 && hook !== 'beforeBlock');
        if (!dropsAfterTheLast) await expectDense(llama, outcome, states, steps, blocks);
        expect(outcome.entering).toEqual(blocks.map(({ hidden }) => VISUAL.length - hidden.size));
        disposeOutcome(outcome);
      }),
      { numRuns: backend === 'wasm' ? 15 : 5 },
    );
    expect(tf.memory().numTensors).toBe(before);
  });
});

/** A pruner that keeps given original tokens at given hooks, whatever was dropped before. */
function scheduled(schedule: readonly { block: number; hook: ReductionHook; kept: readonly number[] }[]): PruningRun {
  const at =
    (hook: ReductionHook) =>
    (view: DecoderView): Promise<Reduction | undefined> => {
      const drop = schedule.find((one) => one.block === view.block && one.hook === hook);
      const current = Int32Array.from(view.originalIndices.keys());
      return Promise.resolve(drop && { keep: current.filter((index) => drop.kept.includes(view.originalIndices[index] as number)) });
    };
  return { beforeBlock: at('beforeBlock'), afterAttention: at('afterAttention'), afterBlock: at('afterBlock'), dispose() {} };
}
