import * as tf from '@tensorflow/tfjs';
import type { Llama } from '../../layers/llama';
import { prefill } from '../../lib/decoder';
import { Pacer } from '../../lib/pacer';
import type { CacheView, PruningRun } from '../../lib/prune/types';
import { Sequence } from '../../lib/sequence';
import { BACKENDS } from '../support/backends';
import { expectClose } from '../support/compare';
import { constant, cutting, type PlannedCut } from './prune/hand_run';
import { decode, disposeOutcome, LENGTH, SHAPE, VISUAL, withTinyDecoder } from './prune/tiny_decoder';

const BLOCKS = SHAPE.num_hidden_layers;
describe.each(BACKENDS)('cutting the caches after prefill, on %s', (backend) => {
  let llama: Llama;
  let states: tf.Tensor2D;
  let steps: tf.Tensor2D;
  withTinyDecoder(backend, 15, (made) => ({ llama, states, steps } = made));

  const mergedOnce: readonly PlannedCut[] = [
    { block: 1, hook: 'afterBlock', plan: constant({ keep: [0, 3, 4, 11, 19], groups: [[1, 2, 5], [18]], places: [5, 1] }) },
  ];

  /** All rows; row r sees column c in a block unless it is hidden there from later tokens. */
  const masked = (all: tf.Tensor2D, hidden: readonly ReadonlySet<number>[], from: number) =>
    tf.tidy(() => {
      const length = all.shape[0];
      const positions = Int32Array.from({ length }, (_, i) => i);
      let rows = all;
      for (const [k, block] of llama.blocks.entries()) {
        const sees = (row: number, column: number) => column <= row && !(row >= from && hidden[k]?.has(column));
        const mask = tf.tensor2d(
          Float32Array.from({ length: length * length }, (_, at) => (sees(Math.floor(at / length), at % length) ? 0 : -1e9)),
          [length, length],
        );
        rows = block.apply(rows, { segments: [{ start: 0, length }], masks: [mask], positions, rotary: llama.rotary.table(positions) });
      }
      return rows;
    });

  it('what a block forgets is hidden from later tokens in that block alone; the prompt was computed with it', async () => {
    const retained = [[0, 1, 5], Array.from(VISUAL.keys()), [], [19], [2, 3]];
    const run: PruningRun = {
      afterPrefill(caches: CacheView) {
        expect(caches.blocks).toBe(BLOCKS);
        for (const [block, keep] of retained.entries()) {
          expect([...caches.visualTokens(block)]).toEqual(Array.from(VISUAL.keys()));
          caches.retain(block, Int32Array.from(keep));
          expect([...caches.visualTokens(block)]).toEqual(keep);
        }
        caches.retain(0, Int32Array.of(0, 2)); // of those left
        expect([...caches.visualTokens(0)]).toEqual([0, 5]);
        return Promise.resolve();
      },
      dispose() {},
    };
    const left = [[0, 5], ...retained.slice(1)];
    const hidden = left.map((keep) => new Set(VISUAL.filter((_, i) => !keep.includes(i))));
    for (const later of ['one by one', 'together'] as const) {
      const outcome = await decode(llama, states, steps, { run, positions: 'keep' }, later);
      const whole = tf.tidy(() => masked(tf.concat([states, steps], 0), hidden, LENGTH));
      const rows = tf.split(whole, whole.shape[0]) as tf.Tensor2D[];
      for (const [i, state] of outcome.decoded.entries()) await expectClose(state, rows[LENGTH + i] as tf.Tensor2D, `${later}: later token ${i}`);
      expect(outcome.cached).toEqual(left.map((keep) => LENGTH - VISUAL.length + keep.length + steps.shape[0]));
      tf.dispose([whole, ...rows]);
      disposeOutcome(outcome);
    }
  });

  it('after drops and merges, and behind an earlier turn with an image, it counts what each block holds', async () => {
    const seen: number[][][] = [];
    const run: PruningRun = {
      ...cutting([...mergedOnce, { block: 3, hook: 'afterAttention', plan: constant({ keep: [5, 6] }) }]),
      afterPrefill(caches) {
        seen.push(Array.from({ length: caches.blocks }, (_, block) => [...caches.visualTokens(block)]));
        caches.retain(0, Int32Array.of(3));
        caches.retain(4, Int32Array.of(1));
        return Promise.resolve();
      },
    };
    const sequence = new Sequence(llama.newCaches());
    for (let turn = 0; turn < 2; turn++) {
      const { states: after } = await prefill(llama, [{ sequence, states, visualRows: VISUAL, pruning: { run, blockInput: false } }], {
        pacer: new Pacer(),
      });
      after.dispose();
    }
    const all = Array.from(VISUAL.keys());
    const each = [all, all, [0, 3, 4, 11, 19, -1, -1], [0, 3, 4, 11, 19, -1, -1], [-1, -1]];
    expect(seen).toEqual([each, each]);
    const turn = (first: number, places: readonly number[]) => [0, 1, 2, 3, ...places, 24, 25, 26, 27, 28, 29].map((place) => first + place);
    expect([...(sequence.caches[0]?.positions ?? [])]).toEqual([...turn(0, [7]), ...turn(30, [7])]);
    expect([...(sequence.caches[2]?.positions ?? [])]).toEqual([...turn(0, [4, 7, 8, 15, 23, 9, 5]), ...turn(30, [4, 7, 8, 15, 23, 9, 5])]);
    expect([...(sequence.caches[4]?.positions ?? [])]).toEqual([...turn(0, [5]), ...turn(30, [5])]);
    sequence.dispose();
  });

  it('is refused for compact positions, for tokens that are not there, and for blocks that are not there', async () => {
    const cases: { policy?: 'compact'; cut: (caches: CacheView) => void; message: string }[] = [
      { policy: 'compact', cut: () => {}, message: 'must keep positions' },
      { cut: (caches) => caches.retain(1, Int32Array.of(20)), message: 'retained visual token 20 of 20 in block 1' },
      { cut: (caches) => caches.retain(1, Int32Array.of(3, 3)), message: 'retained visual token 3 of 20 in block 1' },
      { cut: (caches) => caches.retain(1, Int32Array.of(-1)), message: 'retained visual token -1 of 20 in block 1' },
      { cut: (caches) => caches.retain(5, Int32Array.of(0)), message: 'the cache of block 5; the decoder has blocks 0 to 4' },
      { cut: (caches) => caches.visualTokens(-1), message: 'the cache of block -1' },
    ];
    for (const { policy = 'keep', cut, message } of cases) {
      const run: PruningRun = {
        async afterPrefill(caches) {
          cut(caches);
        },
        dispose() {},
      };
      const sequence = new Sequence(llama.newCaches(), policy);
      const pass = prefill(llama, [{ sequence, states, visualRows: VISUAL, pruning: { run, blockInput: true } }], { pacer: new Pacer() });
      await expect(pass).rejects.toMatchObject({ code: 'BAD_REDUCTION', message: expect.stringContaining(message) });
      sequence.dispose();
    }
  });
});
