import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import type { Llama } from '../../layers/llama';
import { prefill } from '../../lib/decoder';
import type { PrefillInput, ReductionHook } from '../../lib/live';
import { Pacer } from '../../lib/pacer';
import type { DecoderView, PruningRun, Reduction } from '../../lib/prune/types';
import { Random } from '../../lib/random';
import { Sequence } from '../../lib/sequence';
import { watchedSignal } from '../support/aborts';
import { BACKENDS } from '../support/backends';
import { expectClose, expectSame } from '../support/compare';
import { type Cut, constant, cutting, type HandRun, handRun, type PlannedCut, reductionOf } from './prune/hand_run';
import { decode, disposeOutcome, embeddings, SHAPE, VISUAL, withTinyDecoder } from './prune/tiny_decoder';

const BLOCKS = SHAPE.num_hidden_layers;
const HOOKS: readonly ReductionHook[] = ['beforeBlock', 'afterAttention', 'afterBlock'];

/** Any cut of `count` tokens: some stay, some of the others are merged, in groups that may share tokens. */
function anyCut(seed: number, merging: boolean): PlannedCut['plan'] {
  return (count) => {
    const random = new Random(seed, count);
    const all = Array.from({ length: count }, (_, i) => i);
    const keep = all.filter(() => random.below(3) > 0);
    if (!merging) return { keep };
    const groups = Array.from({ length: 1 + random.below(3) }, () => Array.from({ length: 1 + random.below(3) }, () => random.below(count)));
    return { keep, groups, places: groups.map(([first]) => first as number) };
  };
}

describe.each(BACKENDS)('what a reduction does to the sequence, on %s', (backend) => {
  let llama: Llama;
  let states: tf.Tensor2D;
  let steps: tf.Tensor2D;
  withTinyDecoder(backend, 15, (made) => ({ llama, states, steps } = made));

  async function byHand(cuts: readonly PlannedCut[], policy: 'keep' | 'compact'): Promise<HandRun> {
    const all = tf.concat([states, steps], 0);
    const run = await handRun(llama, all, VISUAL, cuts, policy);
    all.dispose();
    return run;
  }

  async function expectByHand(
    cuts: readonly PlannedCut[],
    policy: 'keep' | 'compact',
    later: 'one by one' | 'together' = 'one by one',
  ): Promise<void> {
    const outcome = await decode(llama, states, steps, { run: cutting(cuts), positions: policy }, later);
    const hand = await byHand(cuts, policy);
    const left = hand.states.length - steps.shape[0];
    const expected = hand.states.map((row) => tf.tensor2d([[...row]]));
    const prefilled = tf.concat(expected.slice(0, left), 0);
    await expectClose(outcome.states, prefilled, 'states after prefill');
    for (const [i, state] of outcome.decoded.entries()) await expectClose(state, expected[left + i] as tf.Tensor2D, `state of later token ${i}`);
    expect(outcome.entering).toEqual(hand.entering);
    tf.dispose([prefilled, ...expected]);
    disposeOutcome(outcome);
  }

  const mergedOnce: readonly PlannedCut[] = [
    { block: 1, hook: 'afterBlock', plan: constant({ keep: [0, 3, 4, 11, 19], groups: [[1, 2, 5], [18]], places: [5, 1] }) },
  ];

  it.each(['keep', 'compact'] as const)(
    'merged tokens stand behind the last visual token, for the prompt and for what comes later, positions: %s',
    async (policy) => {
      await expectByHand(mergedOnce, policy);
    },
  );

  it('with kept positions a merged token has that of its place and the original index -1; compact ones count rows', async () => {
    for (const policy of ['keep', 'compact'] as const) {
      const seen: Record<string, number[]> = {};
      const run = cutting(mergedOnce, (hook, view) => {
        if (view.block !== 2 || hook === 'afterAttention') return;
        seen[`${hook} originals`] = [...view.originalIndices];
        seen[`${hook} rows`] = [...view.visualRows];
        seen[`${hook} positions`] = [...view.positions];
      });
      disposeOutcome(await decode(llama, states, steps, { run, positions: policy }));
      const places = [0, 1, 2, 3, 4, 7, 8, 15, 23, 9, 5, 24, 25, 26, 27, 28, 29]; // VISUAL begins at row 4
      const positions = policy === 'keep' ? places : [...places.keys()];
      for (const hook of ['beforeBlock', 'afterBlock']) {
        expect(seen[`${hook} originals`]).toEqual([0, 3, 4, 11, 19, -1, -1]);
        expect(seen[`${hook} rows`]).toEqual([4, 5, 6, 7, 8, 9, 10]);
        expect(seen[`${hook} positions`]).toEqual(positions);
      }
    }
  });

  it('merging beside all tokens adds rows; a merge of nothing changes nothing bit by bit', async () => {
    const all = Array.from(VISUAL.keys());
    await expectByHand([{ block: 3, hook: 'beforeBlock', plan: (count) => ({ keep: all.slice(0, count), groups: [[0, 1]], places: [1] }) }], 'keep');
    const nothing = (view: DecoderView): Promise<Reduction> =>
      Promise.resolve({
        keep: Int32Array.from(view.visualRows.keys()),
        merged: { states: tf.zeros([0, SHAPE.hidden_size]), places: new Int32Array(0) },
      });
    const plain = await decode(llama, states, steps);
    const merged = await decode(llama, states, steps, { run: { afterBlock: nothing, dispose() {} }, positions: 'keep' });
    await expectSame(merged.states, plain.states, 'states after prefill');
    expect(merged.entering).toEqual(plain.entering);
    disposeOutcome(plain);
    disposeOutcome(merged);
  });

  const schedules = fc.uniqueArray(
    fc.record({ block: fc.integer({ min: 0, max: BLOCKS - 1 }), hook: fc.constantFrom(...HOOKS), seed: fc.nat(1e6), merging: fc.boolean() }),
    { minLength: 1, maxLength: 5, selector: ({ block, hook }) => `${hook} ${block}` },
  );

  it('any schedule of drops and merges equals the blocks run by hand, also for the next tokens or turn', async () => {
    const policies = fc.constantFrom('keep' as const, 'compact' as const);
    const turns = fc.constantFrom('one by one' as const, 'together' as const);
    const before = tf.memory().numTensors;
    await fc.assert(
      fc.asyncProperty(schedules, policies, turns, async (schedule, policy, later) => {
        const cuts = schedule.map(({ block, hook, seed, merging }) => ({ block, hook, plan: anyCut(seed, merging && hook !== 'afterAttention') }));
        await expectByHand(cuts, policy, later);
      }),
      { numRuns: backend === 'wasm' ? 20 : 5 },
    );
    expect(tf.memory().numTensors).toBe(before);
  });

  it('sequences that merge, drop and do neither, packed together, get what each gets alone', async () => {
    const others = [embeddings(17, 18), embeddings(12, 19)] as const;
    const requests = [
      { states, visualRows: VISUAL, cuts: mergedOnce },
      { states: others[0], visualRows: Int32Array.of(1, 2, 3, 4, 9), cuts: [{ block: 1, hook: 'afterBlock', plan: constant({ keep: [1, 4] }) }] },
      { states: others[1], visualRows: Int32Array.of(0, 1, 2), cuts: [] },
      { states, visualRows: VISUAL, cuts: [{ block: 1, hook: 'afterBlock', plan: constant({ keep: [], groups: [[0, 19]], places: [19] }) }] },
    ] satisfies { states: tf.Tensor2D; visualRows: Int32Array; cuts: readonly PlannedCut[] }[];
    const inputs = requests.map(
      ({ cuts, ...input }): PrefillInput => ({
        ...input,
        sequence: new Sequence(llama.newCaches()),
        pruning: { run: cutting(cuts), blockInput: true },
      }),
    );
    const together = await prefill(llama, inputs, { pacer: new Pacer() });
    const lengths = together.segments.map(({ length }) => length);
    const parts = tf.split(together.states, lengths);
    for (const [i, request] of requests.entries()) {
      const hand = await handRun(llama, request.states, request.visualRows, request.cuts, 'keep');
      const expected = tf.tensor2d(hand.states.map((row) => [...row]));
      await expectClose(parts[i] as tf.Tensor2D, expected, `sequence ${i}`);
      expect(together.enteringTokens[i]).toEqual(hand.entering);
      expected.dispose();
    }
    for (const { sequence } of inputs) sequence.dispose();
    tf.dispose([together.states, ...parts, ...others]);
  });

  it('where the image ends the prompt, its last row stays last behind what was merged: its logits are the answer', async () => {
    const visualRows = Int32Array.of(2, 3, 4, 5);
    const prompt = embeddings(6, 20);
    const pass = async (cut: Cut) => {
      const sequence = new Sequence(llama.newCaches());
      const run = cutting([{ block: 0, hook: 'afterBlock', plan: constant(cut) }]);
      const { states: after, enteringTokens } = await prefill(
        llama,
        [{ sequence, states: prompt, visualRows, pruning: { run, blockInput: false } }],
        {
          pacer: new Pacer(),
        },
      );
      const positions = [...(sequence.caches[1]?.positions ?? [])];
      sequence.dispose();
      after.dispose();
      return { rows: after.shape[0], entering: enteringTokens[0], positions };
    };
    expect(await pass({ keep: [0] })).toEqual({ rows: 4, entering: [4, 2, 2, 2, 2], positions: [0, 1, 2, 5] });
    expect(await pass({ keep: [0], groups: [[1, 2]], places: [2] })).toEqual({ rows: 5, entering: [4, 3, 3, 3, 3], positions: [0, 1, 2, 4, 5] });
    prompt.dispose();
  });

  it('refuses bad reductions by name, and frees what they handed over', async () => {
    const width = SHAPE.hidden_size;
    const merge = (rows: number, columns: number, places: readonly number[]) => () => ({
      keep: Int32Array.of(0),
      merged: { states: tf.zeros<tf.Rank.R2>([rows, columns]), places: Int32Array.from(places) },
    });
    const cases: { hook?: ReductionHook; reduction: () => Reduction; message: string }[] = [
      { reduction: () => ({ keep: Int32Array.of(20) }), message: 'kept visual token 20 of 20' },
      { reduction: () => ({ keep: Int32Array.of(-1) }), message: 'kept visual token -1 of 20' },
      { reduction: () => ({ keep: Int32Array.of(4, 4) }), message: 'kept visual token 4 of 20 after 4' },
      { reduction: () => ({ keep: Int32Array.of(5, 4) }), message: 'kept visual token 4 of 20 after 5' },
      { reduction: merge(2, width, [1]), message: `merged states [2,${width}] for 1 places; give [1, ${width}]` },
      { reduction: merge(1, 7, [1]), message: `merged states [1,7] for 1 places; give [1, ${width}]` },
      { reduction: merge(1, width, [20]), message: 'the place of visual token 20 of 20' },
      { reduction: merge(1, width, [-1]), message: 'the place of visual token -1 of 20' },
      { hook: 'afterAttention', reduction: merge(1, width, [1]), message: 'merged tokens between attention and MLP' },
    ];
    for (const { hook = 'afterBlock', reduction, message } of cases) {
      const run: PruningRun = { [hook]: () => Promise.resolve(reduction()), dispose() {} };
      const sequence = new Sequence(llama.newCaches());
      const pass = prefill(llama, [{ sequence, states, visualRows: VISUAL, pruning: { run, blockInput: true } }], { pacer: new Pacer() });
      await expect(pass).rejects.toMatchObject({ code: 'BAD_REDUCTION', message: expect.stringContaining(message) });
      sequence.dispose();
    }
  });

  it('broken off at any look at the signal, in any hook, it leaves nothing behind', async () => {
    const pass = async (signal: AbortSignal) => {
      const cuts: readonly PlannedCut[] = [...mergedOnce, { block: 2, hook: 'afterAttention', plan: constant({ keep: [1, 2] }) }];
      const steady = cutting(cuts);
      const run: PruningRun = {
        ...steady,
        async afterAttention(view) {
          view.attended();
          await view.pause();
          return steady.afterAttention?.(view);
        },
        async afterBlock(view) {
          const cut = cuts.find(({ block, hook }) => block === view.block && hook === 'afterBlock');
          const reduction = cut && reductionOf(cut.plan(view.visualRows.length), view);
          try {
            await view.pause();
            return reduction;
          } catch (error) {
            tf.dispose(reduction?.merged?.states);
            throw error;
          }
        },
      };
      const sequence = new Sequence(llama.newCaches());
      try {
        const inputs = [{ sequence, states, visualRows: VISUAL, pruning: { run, blockInput: true } }];
        (await prefill(llama, inputs, { pacer: new Pacer(signal) })).states.dispose();
      } finally {
        sequence.dispose();
      }
    };
    const watched = watchedSignal();
    await pass(watched.signal);
    expect(watched.looks).toBeGreaterThan(20);
    for (let look = 1; look <= watched.looks; look += 3) {
      const before = tf.memory().numTensors;
      await expect(pass(watchedSignal(look).signal)).rejects.toThrow(`aborted at look ${look}`);
      expect(tf.memory().numTensors).toBe(before);
    }
  });
});
