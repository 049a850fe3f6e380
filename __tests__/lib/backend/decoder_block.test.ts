import * as tf from '@tensorflow/tfjs';
import { InPlaceKeyValueCache } from '../../../layers/kv_cache';
import { Llama } from '../../../layers/llama';
import { nativeFactory } from '../../../lib/backend/native/factory_node';
import { decodeStep, prefill } from '../../../lib/decoder';
import { Pacer } from '../../../lib/pacer';
import { Sequence } from '../../../lib/sequence';
import { seedSource } from '../../../weights/sources';
import { expectClose } from '../../support/compare';
import { describeNative, useNative, withoutNativeLeaks } from '../../support/native';
import { embeddings, SHAPE } from '../prune/tiny_decoder';

const BLOCKS = SHAPE.num_hidden_layers;

describeNative('a decoder block in one operation', () => {
  beforeAll(useNative);

  it.each(['float32', 'bfloat16', 'float16', 'int8'] as const)(
    '%s: equals the block part by part, with a prompt, tokens behind it, a fork',
    async (dtype) => {
      await withoutNativeLeaks(async () => {
        const source = seedSource(5, nativeFactory(dtype, 'fused'));
        const llama = new Llama(source.root, SHAPE);
        await source.fill();
        const prompt = embeddings(30, 1);
        const later = [2, 3, 4].map((seed) => embeddings(1, seed));
        const run = async (tap?: () => void) => {
          const options = { pacer: new Pacer(), tap };
          const sequence = new Sequence(llama.newCaches());
          const { states } = await prefill(llama, [{ sequence, states: prompt, visualRows: new Int32Array(0) }], options);
          const fork = sequence.fork();
          const rows = [states];
          for (const one of later) rows.push(await decodeStep(llama, one, [sequence], options));
          rows.push(await decodeStep(llama, later[2] as tf.Tensor2D, [fork], options));
          fork.dispose();
          sequence.dispose();
          return rows;
        };
        const extend = jest.spyOn(InPlaceKeyValueCache, 'extend');
        const parts = await run(() => {}); // a tap sees what is inside a block: none of it may be skipped
        expect(extend).not.toHaveBeenCalled();
        const whole = await run();
        expect(extend).toHaveBeenCalledTimes(BLOCKS * 5);
        extend.mockRestore();
        for (const [i, rows] of whole.entries()) await expectClose(rows, parts[i] as tf.Tensor2D, `pass ${i}`, 1e-6);
        tf.dispose([...parts, ...whole, prompt, ...later]);
        source.dispose();
      });
    },
  );

  it('one row of each of several sequences, of different lengths: what each alone gives', async () => {
    await withoutNativeLeaks(async () => {
      const source = seedSource(7, nativeFactory('float32'));
      const llama = new Llama(source.root, SHAPE);
      await source.fill();
      const options = { pacer: new Pacer() };
      const prompts = [30, 2, 70].map((rows, i) => embeddings(rows, 10 + i)); // the last is too long for it
      const later = [2, 3].map((seed) => embeddings(prompts.length, seed));
      const run = async (which: readonly number[]) => {
        const sequences = which.map(() => new Sequence(llama.newCaches()));
        for (const [i, sequence] of sequences.entries()) {
          const states = prompts[which[i] as number] as tf.Tensor2D;
          (await prefill(llama, [{ sequence, states, visualRows: new Int32Array(0) }], options)).states.dispose();
        }
        const results: tf.Tensor2D[] = [];
        for (const rows of later) {
          const own = tf.tidy(() => tf.gather(rows, tf.tensor1d([...which], 'int32')));
          results.push(await decodeStep(llama, own, sequences, options));
          own.dispose();
        }
        for (const sequence of sequences) sequence.dispose();
        return results;
      };
      const extend = jest.spyOn(InPlaceKeyValueCache, 'extend');
      const together = await run([0, 1, 2]);
      expect(extend).toHaveBeenCalledTimes(BLOCKS * (2 + 2));
      extend.mockRestore();
      for (const which of [0, 1, 2]) {
        const alone = await run([which]);
        for (const [step, expected] of alone.entries()) {
          const actual = tf.slice(together[step] as tf.Tensor2D, [which, 0], [1, -1]);
          await expectClose(actual, expected, `sequence ${which}, token ${step}`, 1e-6);
          tf.dispose([actual, expected]);
        }
      }
      tf.dispose([...together, ...prompts, ...later]);
      source.dispose();
    });
  });

  it.each([
    ['biases', { attention_bias: true }],
    ['another activation', { hidden_act: 'gelu' }],
  ])('is not used for a decoder with %s', async (_, difference) => {
    await withoutNativeLeaks(async () => {
      const source = seedSource(6, nativeFactory('float32'));
      const llama = new Llama(source.root, { ...SHAPE, ...difference });
      await source.fill();
      const sequence = new Sequence(llama.newCaches());
      const prompt = embeddings(3, 1);
      const extend = jest.spyOn(InPlaceKeyValueCache, 'extend');
      const { states } = await prefill(llama, [{ sequence, states: prompt, visualRows: new Int32Array(0) }], { pacer: new Pacer() });
      expect(extend).not.toHaveBeenCalled();
      extend.mockRestore();
      sequence.dispose();
      tf.dispose([states, prompt]);
      source.dispose();
    });
  });
});
