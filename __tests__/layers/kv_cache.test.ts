import * as tf from '@tensorflow/tfjs';
import { attend } from '../../layers/attention';
import { type FusedOperations, fused } from '../../layers/fused';
import { ConcatKeyValueCache, HeadwiseKeyValueCache, InPlaceKeyValueCache, type KeyValueCache } from '../../layers/kv_cache';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose, expectSame } from '../support/compare';

const SHAPE = { heads: 4, keyValueHeads: 2, headDim: 4 };
const random = (rows: number, width: number, seed: number) => tf.randomNormal<tf.Rank.R2>([rows, width], 0, 1, 'float32', seed);
const upTo = (length: number, first = 0) => Int32Array.from({ length }, (_, i) => first + i);

const KINDS: Readonly<Record<string, () => KeyValueCache>> = {
  concat: () => new ConcatKeyValueCache(SHAPE),
  headwise: () => new HeadwiseKeyValueCache(SHAPE),
  'in place': () => new InPlaceKeyValueCache(SHAPE, fused() as FusedOperations),
};

describe.each(BACKENDS)('forgetting tokens of a key-value cache, on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  const kinds = Object.keys(KINDS).filter((kind) => kind !== 'in place' || backend === 'tensorflow'); // no other writes in place

  it.each(kinds)('keeps what is retained and its positions, apart from forks: %s', async (kind) => {
    const cache = (KINDS[kind] as () => KeyValueCache)();
    const [query, keys, values] = [random(1, 16, 1), random(7, 8, 2), random(7, 8, 3)];
    const [moreKeys, moreValues] = [random(2, 8, 4), random(2, 8, 5)];
    const expectHolds = async (held: KeyValueCache, tokens: readonly number[], positions: readonly number[], what: string) => {
      expect([...held.positions]).toEqual(positions);
      expect(held.length).toBe(tokens.length);
      const expected = tf.tidy(() => {
        const rows = tf.tensor1d([...tokens], 'int32');
        const [k, v] = [tf.concat([keys, moreKeys], 0), tf.concat([values, moreValues], 0)];
        return attend(query, tf.gather(k, rows), tf.gather(v, rows), SHAPE);
      });
      const actual = held.attend(query);
      await expectClose(actual, expected, what, 1e-5);
      tf.dispose([actual, expected]);
    };
    await withoutLeaks(async () => {
      cache.append(keys, values, upTo(7, 10));
      const before = cache.fork();
      const whole = cache.attend(query);
      cache.retain(upTo(7));
      await expectHolds(cache, [0, 1, 2, 3, 4, 5, 6], [10, 11, 12, 13, 14, 15, 16], 'all retained');
      cache.retain(Int32Array.of(0, 2, 3, 6));
      await expectHolds(cache, [0, 2, 3, 6], [10, 12, 13, 16], 'four retained');
      await expectHolds(before, [0, 1, 2, 3, 4, 5, 6], [10, 11, 12, 13, 14, 15, 16], 'a fork from before');
      const after = cache.fork();
      cache.append(moreKeys, moreValues, Int32Array.of(20, 21));
      await expectHolds(cache, [0, 2, 3, 6, 7, 8], [10, 12, 13, 16, 20, 21], 'two more behind them');
      cache.retain(Int32Array.of(1, 5));
      await expectHolds(cache, [2, 8], [12, 21], 'retained again');
      after.append(moreKeys, moreValues, Int32Array.of(30, 31));
      await expectHolds(after, [0, 2, 3, 6, 7, 8], [10, 12, 13, 16, 30, 31], 'a fork from behind the first');
      after.truncate(3);
      await expectHolds(after, [0, 2, 3], [10, 12, 13], 'gone back');
      after.retain(Int32Array.of(2));
      before.retain(Int32Array.of(0, 6));
      after.dispose();
      await expectHolds(before, [0, 6], [10, 16], 'the first fork, cut by itself');
      cache.retain(new Int32Array(0));
      expect(cache.length).toBe(0);
      expect(() => cache.attend(query)).toThrow(expect.objectContaining({ code: 'EMPTY_CACHE' }));
      cache.append(keys, values, upTo(7));
      const again = cache.attend(query);
      await expectSame(again, whole, 'filled again');
      cache.dispose();
      before.dispose();
      expect(() => cache.retain(Int32Array.of(0))).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
      tf.dispose([whole, again]);
    });
    tf.dispose([query, keys, values, moreKeys, moreValues]);
  });
});
