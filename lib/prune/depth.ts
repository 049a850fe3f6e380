import { PruneError } from '../../layers/errors';
import { show } from './checks';

/** The depth that methods' layers are published for. */
const PUBLISHED_BLOCKS = 32;

/**
 * Layers published for a decoder of 32 blocks, brought to one of `blocks`: round(layer * blocks / 32), halves up, then held inside `least` to `most` and
 * made strictly ascending. A decoder too shallow for all of them gets the first ones.
 *
 * @param least by default 1: before block 0 no block has run
 * @param most by default the last block
 */
export function scaledLayers(layers: readonly number[], blocks: number, least = 1, most: number = blocks - 1): number[] {
  const fitting = layers.slice(0, Math.max(0, most - least + 1));
  let before = least - 1;
  return fitting.map((layer, i) => {
    const last = most - (fitting.length - 1 - i); // leaves room for those that follow
    before = Math.min(last, Math.max(before + 1, Math.round((layer * blocks) / PUBLISHED_BLOCKS)));
    return before;
  });
}

/**
 * Layers that a user gave: whole numbers, strictly ascending, `least` or more.
 *
 * @throws PruneError `LAYER_INVALID`
 */
export function checkLayers(layers: unknown, name: string, least: number): readonly number[] {
  const list: readonly unknown[] = Array.isArray(layers) ? layers : [];
  const good = list.every((layer, i) => Number.isSafeInteger(layer) && (layer as number) >= (i === 0 ? least : (list[i - 1] as number) + 1));
  if (list.length === 0 || !good) {
    const given = Array.isArray(layers) ? `[${list.map(show).join(', ')}]` : show(layers);
    throw new PruneError(
      'LAYER_INVALID',
      `Option "${name}" is ${given}. Give a list of whole numbers of at least ${least}, each above the one before.`,
    );
  }
  return list as readonly number[];
}

/** @throws PruneError `LAYER_INVALID` unless the last of ascending layers lies inside the decoder, at `most` or before */
export function checkDepth(layers: readonly number[], name: string, blocks: number, most: number): void {
  const last = layers.at(-1);
  if (last === undefined || last > most) {
    const what = last === undefined ? 'no layer fits' : `option "${name}" ends at ${last}`;
    throw new PruneError(
      'LAYER_INVALID',
      `The decoder has ${blocks} blocks, and ${what}: nothing would be dropped there. Give layers up to ${most}.`,
    );
  }
}
