import * as tf from '@tensorflow/tfjs';
import { Linear } from '../../layers/linear';
import { decodeStep, prefill } from '../../lib/decoder';
import { Pacer } from '../../lib/pacer';
import type { PruningRun } from '../../lib/prune/types';
import { Sequence } from '../../lib/sequence';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { embeddings, SHAPE, tinyDecoder, VISUAL } from './prune/tiny_decoder';

const BLOCKS = SHAPE.num_hidden_layers;
const every = (step: number, view: { readonly visualRows: Int32Array }) => ({
  keep: Int32Array.from({ length: Math.ceil(view.visualRows.length / step) }, (_, i) => i * step),
});

/** Pruners that drop tokens before the last block, before the one before it, and behind the last. */
const RUNS: Readonly<Record<string, PruningRun | undefined>> = {
  nothing: undefined,
  'before the last block': { beforeBlock: async (view) => (view.block === BLOCKS - 1 ? every(3, view) : undefined), dispose() {} },
  'in the middle': { beforeBlock: async (view) => (view.block === 2 ? every(2, view) : undefined), dispose() {} },
  'behind the last block': { afterBlock: async (view) => (view.block === BLOCKS - 1 ? every(2, view) : undefined), dispose() {} },
};

describe.each(BACKENDS)('a prefill of which only the last rows are wanted, on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(Object.keys(RUNS))('gives those that the whole gives, and caches that go on alike; dropped: %s', async (dropped) => {
    const { llama, dispose } = tinyDecoder(3);
    const lengths = [30, 26];
    const states = lengths.map((rows, i) => embeddings(rows, 40 + i));
    const next = embeddings(2, 50);
    const run = async (lastRows: boolean) => {
      const sequences = lengths.map(() => new Sequence(llama.newCaches()));
      const inputs = sequences.map((sequence, i) => ({
        sequence,
        states: states[i] as tf.Tensor2D,
        visualRows: VISUAL,
        pruning: RUNS[dropped] && { run: RUNS[dropped], blockInput: false },
      }));
      const result = await prefill(llama, inputs, { pacer: new Pacer(), lastRows });
      const decoded = await decodeStep(llama, next, sequences, { pacer: new Pacer() });
      for (const sequence of sequences) sequence.dispose();
      return { ...result, decoded };
    };
    await withoutLeaks(async () => {
      const [whole, last] = [await run(false), await run(true)];
      expect(last.segments).toEqual([
        { start: 0, length: 1 },
        { start: 1, length: 1 },
      ]);
      expect(last.enteringTokens).toEqual(whole.enteringTokens);
      for (const [i, { start, length }] of whole.segments.entries()) {
        const [actual, expected] = [tf.slice(last.states, [i, 0], [1, -1]), tf.slice(whole.states, [start + length - 1, 0], [1, -1])];
        await expectClose(actual, expected, `sequence ${i}`, 1e-5);
        tf.dispose([actual, expected]);
      }
      await expectClose(last.decoded, whole.decoded, 'the next token', 1e-5);
      tf.dispose([whole.states, whole.decoded, last.states, last.decoded]);
    });
    tf.dispose([...states, next]);
    dispose();
  });

  it('the last block computes keys and values of all rows, and all else of the last rows alone', async () => {
    const { llama, dispose } = tinyDecoder(4);
    const states = embeddings(30, 60);
    const sequence = new Sequence(llama.newCaches());
    const apply = jest.spyOn(Linear.prototype, 'apply');
    const { states: last } = await prefill(llama, [{ sequence, states, visualRows: new Int32Array(0) }], { pacer: new Pacer(), lastRows: true });
    const rows = apply.mock.calls.map(([x]) => x.shape[0]);
    apply.mockRestore();
    const products = 7; // of a block
    expect(rows.slice(0, products * (BLOCKS - 1))).toEqual(Array(products * (BLOCKS - 1)).fill(30));
    expect(rows.slice(products * (BLOCKS - 1))).toEqual([30, 30, 1, 1, 1, 1, 1]);
    sequence.dispose();
    tf.dispose([states, last]);
    dispose();
  });
});
