import { ConfigError } from '../../layers/errors';
import { LANGUAGE_PATH } from './recipe';
import type { NamedArrays } from './variables';

/** What writes into the stream: with these at 0 a block changes nothing. */
const WRITES = /\.(o_proj|down_proj)\.weight$/;

/**
 * A decoder with more blocks that computes the same: each block is followed by copies of itself whose output matrices are 0, so that they begin as the identity and
 * are there to be trained (block expansion, Wu et al. 2024, https://arxiv.org/abs/2401.02415). Other tensors stay as they are.
 *
 * @param blocks of the result, a multiple of those that `arrays` has
 * @throws ConfigError `TRAIN_SHAPE`
 */
export function deepened(arrays: NamedArrays, blocks: number): NamedArrays {
  const pattern = new RegExp(`^(${LANGUAGE_PATH}\\.model\\.layers\\.)(\\d+)(\\..*)$`);
  const before = 1 + Math.max(-1, ...[...arrays.keys()].map((name) => Number(pattern.exec(name)?.[2] ?? -1)));
  if (before === 0 || blocks % before !== 0)
    throw new ConfigError('TRAIN_SHAPE', `A decoder of ${before} blocks can't be deepened to ${blocks}: give a multiple.`);
  const copies = blocks / before;
  const deep: NamedArrays = new Map();
  for (const [name, array] of arrays) {
    const [, start, block, rest] = pattern.exec(name) ?? [];
    if (block === undefined) deep.set(name, array);
    for (let copy = 0; block !== undefined && copy < copies; copy++) {
      const data = copy > 0 && WRITES.test(name) ? new Float32Array(array.data.length) : array.data;
      deep.set(`${start}${Number(block) * copies + copy}${rest}`, { shape: array.shape, data });
    }
  }
  return deep;
}
