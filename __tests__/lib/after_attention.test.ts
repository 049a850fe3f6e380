import * as tf from '@tensorflow/tfjs';
import type { Llama } from '../../layers/llama';
import { prefill } from '../../lib/decoder';
import { Pacer } from '../../lib/pacer';
import type { PruningRun } from '../../lib/prune/types';
import { Sequence } from '../../lib/sequence';
import { BACKENDS } from '../support/backends';
import { expectClose } from '../support/compare';
import { constant, cutting, type PlannedCut } from './prune/hand_run';
import { decode, dense, disposeOutcome, expectDense, LENGTH, SHAPE, VISUAL, withTinyDecoder } from './prune/tiny_decoder';

const BLOCKS = SHAPE.num_hidden_layers;
describe.each(BACKENDS)('dropping between attention and MLP, on %s', (backend) => {
  let llama: Llama;
  let states: tf.Tensor2D;
  let steps: tf.Tensor2D;
  withTinyDecoder(backend, 15, (made) => ({ llama, states, steps } = made));

  const dropped: readonly PlannedCut[] = [{ block: 2, hook: 'afterAttention', plan: constant({ keep: [0, 7, 8] }) }];

  it('a view has what the attention gave, through the second norm, of all rows, and attention rows of the block itself', async () => {
    const block = llama.blocks[2] as Llama['blocks'][number];
    const tapped = new Map<string, tf.Tensor>();
    const tap = (name: string, value: tf.Tensor) => {
      if (/layers\.(1|2\.self_attn|2\.self_attn#probabilities)$/.test(name)) tapped.set(name.replace(/.*layers\./, ''), tf.keep(value.clone()));
    };
    tf.dispose(dense(llama, states, new Array(BLOCKS).fill({ hidden: new Set(), positions: 'keep' }), tap));
    const expected = tf.tidy(() => {
      const between = tf.add<tf.Tensor2D>(tapped.get('1') as tf.Tensor2D, tapped.get('2.self_attn') as tf.Tensor2D);
      const weight = tf.mul(block.attended(tf.ones([1, SHAPE.hidden_size])), Math.sqrt(1 + SHAPE.rms_norm_eps)); // the norm of a row of ones
      return tf.mul(tf.mul(between, tf.rsqrt(tf.add(tf.mean(tf.square(between), 1, true), SHAPE.rms_norm_eps))), weight);
    });
    const rows = Int32Array.of(5, LENGTH - 1);
    const map = tf.tidy(() => tf.gather(tapped.get('2.self_attn#probabilities') as tf.Tensor3D, tf.tensor1d(rows, 'int32'), 1));
    let looked = 0;
    const run: PruningRun = {
      async afterAttention(view) {
        if (view.block !== 2) return undefined;
        looked++;
        await expectClose(view.attended(), expected, 'attended');
        await expectClose(view.states, tapped.get('1') as tf.Tensor2D, 'what entered the block');
        const asked = view.attentionRows(2, rows);
        await expectClose(asked, map, 'attention rows');
        asked.dispose();
        return undefined;
      },
      dispose() {},
    };
    disposeOutcome(await decode(llama, states, steps, { run, positions: 'keep' }));
    expect(looked).toBe(1);
    tf.dispose([expected, map, ...tapped.values()]);
  });

  it('drops from the MLP on: the block itself still attends to all, its cache holds all', async () => {
    const hidden = new Set(VISUAL.filter((_, i) => ![0, 7, 8].includes(i)));
    const blocks = Array.from({ length: BLOCKS }, (_, block) => ({ hidden: block > 2 ? hidden : new Set<number>(), positions: 'keep' as const }));
    const outcome = await decode(llama, states, steps, { run: cutting(dropped), positions: 'keep' });
    await expectDense(llama, outcome, states, steps, blocks);
    expect(outcome.entering).toEqual([20, 20, 20, 3, 3]);
    expect(outcome.cached).toEqual([33, 33, 33, 16, 16]);
    disposeOutcome(outcome);
  });

  it('taps see whole blocks: all rows of the attention, those that are left of the MLP', async () => {
    const shapes: Record<string, number[]> = {};
    const tap = (name: string, { shape }: tf.Tensor) => {
      const [, at] = /layers\.2(\.self_attn|\.mlp|)$/.exec(name) ?? [];
      if (at !== undefined) shapes[at] = [...(shapes[at] ?? []), shape[0] as number];
    };
    const sequence = new Sequence(llama.newCaches());
    const inputs = [{ sequence, states, visualRows: VISUAL, pruning: { run: cutting(dropped), blockInput: false } }];
    const tapped = await prefill(llama, inputs, { pacer: new Pacer(), tap });
    expect(shapes).toEqual({ '.self_attn': [30], '.mlp': [13], '': [13] });
    const outcome = await decode(llama, states, steps, { run: cutting(dropped), positions: 'keep' });
    await expectClose(tapped.states, outcome.states, 'states with a tap', 1e-5);
    sequence.dispose();
    tapped.states.dispose();
    disposeOutcome(outcome);
  });

  it('the last rows alone, when asked for, are those of the whole', async () => {
    const pass = async (lastRows: boolean) => {
      const sequence = new Sequence(llama.newCaches());
      const last: readonly PlannedCut[] = [...dropped, { block: BLOCKS - 1, hook: 'afterAttention', plan: constant({ keep: [] }) }];
      const result = await prefill(llama, [{ sequence, states, visualRows: VISUAL, pruning: { run: cutting(last), blockInput: false } }], {
        pacer: new Pacer(),
        lastRows,
      });
      sequence.dispose();
      return result.states;
    };
    const [whole, last] = [await pass(false), await pass(true)];
    expect([whole.shape[0], last.shape[0]]).toEqual([10, 1]);
    const row = tf.slice(whole, [9, 0], [1, -1]);
    await expectClose(last, row, 'the last row', 1e-6);
    tf.dispose([whole, last, row]);
  });

  it('after a drop, what entered the block is no longer at hand: its rows are others', async () => {
    for (const cut of [
      dropped[0] as PlannedCut,
      { block: 2, hook: 'afterBlock', plan: constant({ keep: [0], groups: [[1]], places: [1] }) } as const,
    ]) {
      const codes: unknown[] = [];
      const run = cutting([cut], (hook, view) => {
        const asked = (hook === 'afterBlock' && view.block === 2) || (hook === 'beforeBlock' && view.block === 3);
        if (!asked) return;
        try {
          tf.dispose(view.attentionRows(2, Int32Array.of(0)));
          codes.push('given');
        } catch (error) {
          codes.push((error as { code?: string }).code);
        }
      });
      disposeOutcome(await decode(llama, states, steps, { run, positions: 'keep' }));
      expect(codes).toEqual(cut.hook === 'afterBlock' ? ['given', 'NO_BLOCK_INPUT'] : ['NO_BLOCK_INPUT', 'NO_BLOCK_INPUT']);
    }
  });

  it('as many merged as dropped: the rows are as many as before, and yet others', async () => {
    const codes: unknown[] = [];
    const plan = constant({ keep: Array.from({ length: 18 }, (_, i) => i), groups: [[18], [19]], places: [18, 19] });
    const run = cutting([{ block: 2, hook: 'afterBlock', plan }], (hook, view) => {
      if (hook !== 'beforeBlock' || view.block !== 3) return;
      try {
        tf.dispose(view.keys(2));
        codes.push('given');
      } catch (error) {
        codes.push((error as { code?: string }).code);
      }
    });
    disposeOutcome(await decode(llama, states, steps, { run, positions: 'keep' }));
    expect(codes).toEqual(['NO_BLOCK_INPUT']);
  });

  it('a view gives what the attention gave in afterAttention only', async () => {
    const codes: unknown[] = [];
    const run = cutting([], (hook, view) => {
      if (hook === 'afterAttention' || view.block > 0) return;
      try {
        view.attended();
      } catch (error) {
        codes.push((error as { code?: string }).code);
      }
    });
    disposeOutcome(await decode(llama, states, steps, { run, positions: 'keep' }));
    expect(codes).toEqual(['NO_BLOCK_INPUT', 'NO_BLOCK_INPUT']);
  });
});
