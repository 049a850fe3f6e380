import * as tf from '@tensorflow/tfjs';
import { attend, attendSegments, attentionProbabilities, CausalMask, causalMask, LARGEST_MAP } from '../../layers/attention';
import { StateError } from '../../layers/errors';
import { ConcatKeyValueCache, HeadwiseKeyValueCache } from '../../layers/kv_cache';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose, expectSame } from '../support/compare';

const SHAPE = { heads: 4, keyValueHeads: 2, headDim: 3 };
const random = (rows: number, width: number, seed: number) => tf.randomNormal<tf.Rank.R2>([rows, width], 0, 1, 'float32', seed);

describe.each(BACKENDS)('attention on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('is the mean of the values where all keys are alike, for every head its own values', async () => {
    await withoutLeaks(async () => {
      const [queries, values] = [random(3, 12, 1), random(5, 6, 2)];
      const keys = tf.ones<tf.Rank.R2>([5, 6]);
      const output = attend(queries, keys, values, SHAPE);
      const mean = tf.tidy(() => {
        const byHead = tf.reshape(tf.mean(values, 0), [2, 1, 3]); // key-value heads
        return tf.tile(tf.reshape(tf.tile(byHead, [1, 2, 1]), [1, 12]), [3, 1]); // each serves two query heads, in order
      });
      await expectClose(output, mean, 'the mixed values');
      tf.dispose([queries, keys, values, output, mean]);
    });
  });

  it('of more tokens than one map is made for goes through in parts, each of the keys that it sees', async () => {
    const [queries, keys, values] = [random(50, 12, 31), random(50, 6, 32), random(50, 6, 33)];
    const { elements } = LARGEST_MAP;
    await withoutLeaks(async () => {
      for (const mask of [new CausalMask(50, 50), undefined]) {
        const run = async () => ({ ...(await tf.profile(() => attend(queries, keys, values, SHAPE, { mask }))) }); // it is one object for all
        const whole = await run();
        LARGEST_MAP.elements = 1500; // of 4 * 50 * 50
        const parts = await run().finally(() => {
          LARGEST_MAP.elements = elements;
        });
        await expectClose(parts.result as tf.Tensor, whole.result as tf.Tensor, mask ? 'causal' : 'all', 1e-6);
        const softmaxes = ({ kernels }: { readonly kernels: readonly { readonly name: string }[] }) =>
          kernels.filter(({ name }) => name === 'Softmax').length;
        if (backend === 'cpu') expect([whole, parts].map(softmaxes)).toEqual([1, 7]);
        mask?.dispose();
        tf.dispose([parts.result, whole.result]);
      }
    });
    tf.dispose([queries, keys, values]);
  });

  it('with grouped queries equals attention with every key-value head repeated', async () => {
    await withoutLeaks(async () => {
      const [queries, keys, values] = [random(4, 12, 3), random(4, 6, 4), random(4, 6, 5)];
      const mask = causalMask(4, 4);
      const repeated = (x: tf.Tensor2D) => tf.tidy(() => tf.reshape(tf.tile(tf.reshape(x, [4, 2, 1, 3]), [1, 1, 2, 1]), [4, 12]) as tf.Tensor2D);
      const [allKeys, allValues] = [repeated(keys), repeated(values)];
      const grouped = attend(queries, keys, values, SHAPE, { mask });
      const plain = attend(queries, allKeys, allValues, { ...SHAPE, keyValueHeads: 4 }, { mask });
      await expectClose(grouped, plain, 'grouped against repeated');
      tf.dispose([queries, keys, values, mask, allKeys, allValues, grouped, plain]);
    });
  });

  it('hides later keys from every query, and a chunk of queries sees all that came before it', async () => {
    const [queries, keys, values] = [random(6, 12, 6), random(6, 6, 7), random(6, 6, 8)];
    const rows = (x: tf.Tensor2D, start: number, length: number) => tf.slice(x, [start, 0], [length, -1]);
    const whole = attend(queries, keys, values, SHAPE, { mask: causalMask(6, 6) });
    const chunk = attend(rows(queries, 4, 2), keys, values, SHAPE, { mask: causalMask(2, 6) });
    await expectClose(chunk, rows(whole, 4, 2), 'the last two rows');
    const first = attend(rows(queries, 0, 1), rows(keys, 0, 1), rows(values, 0, 1), SHAPE);
    await expectClose(rows(whole, 0, 1), first, 'the first row, which sees itself only');
  });

  it('packed segments of equal and of different lengths equal each alone', async () => {
    for (const lengths of [
      [3, 3],
      [2, 4],
    ] as const) {
      const [queries, keys, values] = [random(6, 12, 9), random(6, 6, 10), random(6, 6, 11)];
      const segments = [
        { start: 0, length: lengths[0] },
        { start: lengths[0], length: lengths[1] },
      ];
      const packed = attendSegments(queries, keys, values, segments, SHAPE);
      for (const { start, length } of segments) {
        const rows = (x: tf.Tensor2D) => tf.slice(x, [start, 0], [length, -1]);
        await expectClose(rows(packed), attend(rows(queries), rows(keys), rows(values), SHAPE), `rows ${start} to ${start + length}`);
      }
    }
  });

  it('shows the probabilities that it used, the same as attentionProbabilities gives, [heads, queries, keys]', async () => {
    const [queries, keys, values] = [random(4, 12, 12), random(4, 6, 13), random(4, 6, 14)];
    const mask = causalMask(4, 4);
    let seen: tf.Tensor3D | undefined;
    const onProbabilities = (value: tf.Tensor3D) => {
      seen = tf.keep(value.clone());
    };
    attend(queries, keys, values, SHAPE, { mask, onProbabilities });
    const asked = attentionProbabilities(queries, keys, SHAPE, mask);
    expect(seen?.shape).toEqual([4, 4, 4]);
    await expectClose(seen as tf.Tensor3D, asked, 'probabilities');
    await expectClose(tf.sum(asked, -1), tf.ones([4, 4]), 'sums of rows');
  });

  describe.each([ConcatKeyValueCache, HeadwiseKeyValueCache])('the key-value cache: %p', (Cache) => {
    it('gives, token by token, what all tokens at once give', async () => {
      const [queries, keys, values] = [random(5, 12, 15), random(5, 6, 16), random(5, 6, 17)];
      const whole = attend(queries, keys, values, SHAPE, { mask: causalMask(5, 5) });
      const row = (x: tf.Tensor2D, i: number) => tf.slice(x, [i, 0], [1, -1]);
      const cache = new Cache(SHAPE);
      for (let i = 0; i < 5; i++) {
        cache.append(row(keys, i), row(values, i), Int32Array.of(i));
        await expectClose(cache.attend(row(queries, i)), row(whole, i), `token ${i}`);
      }
      expect([...cache.positions]).toEqual([0, 1, 2, 3, 4]);
      cache.dispose();
    });

    it('forks into two that go on apart, and neither frees the other', async () => {
      const [query, keys, values] = [random(1, 12, 18), random(3, 6, 19), random(3, 6, 20)];
      const cache = new Cache(SHAPE);
      await withoutLeaks(async () => {
        cache.append(keys, values, Int32Array.of(0, 1, 2));
        const before = cache.attend(query);
        const fork = cache.fork();
        fork.append(keys, values, Int32Array.of(3, 4, 5));
        expect([cache.length, fork.length]).toEqual([3, 6]);
        fork.dispose();
        const after = cache.attend(query);
        await expectSame(after, before, 'the first after the fork was freed');
        cache.dispose();
        cache.dispose();
        tf.dispose([before, after]);
      });
    });

    it('goes back to its first tokens, and on from there', async () => {
      const [query, keys, values] = [random(1, 12, 24), random(5, 6, 25), random(5, 6, 26)];
      const first = (x: tf.Tensor2D, length: number) => tf.slice(x, [0, 0], [length, -1]);
      await withoutLeaks(async () => {
        const [whole, cut] = [new Cache(SHAPE), new Cache(SHAPE)];
        const [k3, v3] = [first(keys, 3), first(values, 3)];
        whole.append(k3, v3, Int32Array.of(0, 1, 2));
        cut.append(keys, values, Int32Array.of(0, 1, 2, 3, 4));
        cut.truncate(7); // holds no more than 5
        cut.truncate(2);
        expect([...cut.positions]).toEqual([0, 1]);
        const [k1, v1] = [tf.slice(keys, [2, 0], [1, -1]), tf.slice(values, [2, 0], [1, -1])];
        cut.append(k1, v1, Int32Array.of(2));
        const [expected, actual] = [whole.attend(query), cut.attend(query)];
        await expectSame(actual, expected, 'after going back');
        cut.truncate(0);
        expect(cut.length).toBe(0);
        whole.dispose();
        cut.dispose();
        tf.dispose([k3, v3, k1, v1, expected, actual]);
      });
    });

    it('says so when it is used empty or after dispose', () => {
      const cache = new Cache(SHAPE);
      const query = random(1, 12, 21);
      expect(() => cache.attend(query)).toThrow(expect.objectContaining({ code: 'EMPTY_CACHE' }));
      cache.dispose();
      const append = () => cache.append(random(1, 6, 22), random(1, 6, 23), Int32Array.of(0));
      expect(append).toThrow(StateError);
      expect(append).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
    });
  });
});
