import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount } from './budget';
import { wholeNumber } from './checks';
import type { Method } from './method';

/** `seed`: whole, 0 to 2^32 - 1; default 0. The same seed, image number, crop number and count give the same patches. */
export type RandomOptions = { readonly method: 'random'; readonly seed?: number } & Budget;

/** The baseline that every method has to beat: a uniformly random subset of each crop. Vary the seed over questions to average over subsets. */
export const randomMethod: Method<RandomOptions> = {
  options: [...BUDGET_OPTIONS, 'seed'],
  about: {
    title: 'Random',
    acts: 'between encoder and projector, each crop by itself',
    reads: 'nothing',
    entering: 'T',
    source: 'the usual baseline',
    grade: 'ours',
    differences: ['Seeded: the same seed, image number, crop number and count give the same patches.', 'T > N is an error.'],
  },
  example: { method: 'random', tokens: 64, seed: 1 },
  create({ tokens, keepRatio, seed = 0 }) {
    const start = wholeNumber(seed, 'seed', 'SEED_INVALID', 0, 2 ** 32 - 1);
    return beforeDecoder({
      name: 'random',
      count: tokenCount({ tokens, keepRatio }),
      needs: () => ({ attention: [] }),
      select: ({ grid, image, crop }, count) => Promise.resolve(randomSubset(grid.rows * grid.columns, count, [start, image, crop])),
    });
  },
};

/** `count` of 0 to `size - 1`, ascending; every subset is equally likely over keys. */
export function randomSubset(size: number, count: number, key: readonly number[]): Int32Array {
  const next = randomIntegers(key);
  const indices = Int32Array.from({ length: size }, (_, index) => index);
  for (let i = 0; i < count; i++) {
    const j = i + next(size - i);
    const swapped = indices[i]!;
    indices[i] = indices[j]!;
    indices[j] = swapped;
  }
  return indices.slice(0, count).sort();
}

/** Whole numbers below a bound, from a 32-bit counter whose steps are mixed by MurmurHash3's finalizer; `key` gives its start. */
function randomIntegers(key: readonly number[]): (bound: number) => number {
  let state = key.reduce((hash, part) => mix(hash ^ part) + 0x9e3779b9, 0);
  return (bound) => {
    state = (state + 0x9e3779b9) | 0;
    return Math.floor((mix(state) / 2 ** 32) * bound);
  };
}

function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
