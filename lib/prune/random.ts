import { Random } from '../random';
import { beforeDecoder } from './before_decoder';
import { BUDGET_OPTIONS, type Budget, tokenCount, wholeTokens } from './budget';
import { wholeNumber } from './checks';
import type { Method } from './method';

/** `seed`: whole, 0 to 2^32 - 1; default 0. The same seed, image number, crop number and count give the same patches. */
export type RandomOptions = { readonly method: 'random'; readonly seed?: number } & Budget;

/** Far above any: it makes one stream of random numbers of an image and a crop number. */
const CROPS_PER_IMAGE = 65536;

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
  forAverage: (average) => ({ method: 'random', tokens: wholeTokens(average) }),
  create({ tokens, keepRatio, seed = 0 }) {
    const start = wholeNumber(seed, 'seed', 'SEED_INVALID', 0, 2 ** 32 - 1);
    return beforeDecoder({
      name: 'random',
      count: tokenCount({ tokens, keepRatio }),
      needs: () => ({ attention: [] }),
      select: ({ grid, image, crop }, count) =>
        Promise.resolve(randomSubset(grid.rows * grid.columns, count, new Random(start, image * CROPS_PER_IMAGE + crop))),
    });
  },
};

/** `count` of 0 to `size - 1`, ascending: the first places of a Fisher-Yates shuffle. */
function randomSubset(size: number, count: number, random: Random): Int32Array {
  const indices = Int32Array.from({ length: size }, (_, index) => index);
  for (let i = 0; i < count; i++) {
    const j = i + random.below(size - i);
    const swapped = indices[i]!;
    indices[i] = indices[j]!;
    indices[j] = swapped;
  }
  return indices.slice(0, count).sort();
}
