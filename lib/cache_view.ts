import { PruneError } from '../layers/errors';
import type { KeyValueCache } from '../layers/kv_cache';
import type { CachedTokens, Live } from './live';
import type { CacheView } from './prune/types';

/** Notes which visual tokens a block about to run will put into its cache, for pruners that cut caches. */
export function noteCached(block: number, lives: readonly Live[]): void {
  for (const { input, cached, visualRows, originalIndices } of lives) {
    if (!input.pruning?.run.afterPrefill) continue;
    const held = (input.sequence.caches[block] as KeyValueCache).length;
    cached[block] = { tokens: visualRows.map((row) => held + row), originalIndices };
  }
}

/** Lets pruners cut the caches that prefill left. @throws PruneError `BAD_REDUCTION` */
export async function cutCaches(lives: readonly Live[]): Promise<void> {
  for (const { input, cached } of lives) {
    const run = input.pruning?.run;
    if (!run?.afterPrefill || cached.length === 0) continue;
    if (input.sequence.positions !== 'keep')
      throw new PruneError(
        'BAD_REDUCTION',
        'A pruner that cuts caches after prefill must keep positions: with compact ones, later tokens would come before the prompt.',
      );
    await run.afterPrefill(new SequenceCaches(input.sequence.caches, cached));
  }
}

class SequenceCaches implements CacheView {
  constructor(
    private readonly caches: readonly KeyValueCache[],
    private readonly cached: CachedTokens[],
  ) {}

  get blocks(): number {
    return this.caches.length;
  }

  visualTokens(block: number): Int32Array {
    return this.at(block).originalIndices;
  }

  retain(block: number, keep: Int32Array): void {
    const { tokens, originalIndices } = this.at(block);
    const cache = this.caches[block] as KeyValueCache;
    const stays = new Uint8Array(cache.length).fill(1);
    for (const token of tokens) stays[token] = 0;
    for (const [i, index] of keep.entries()) {
      const token = tokens[index];
      if (token === undefined || (i > 0 && index <= (keep[i - 1] as number)))
        throw new PruneError(
          'BAD_REDUCTION',
          `A pruner retained visual token ${index} of ${tokens.length} in block ${block}: indices must exist and ascend.`,
        );
      stays[token] = 1;
    }
    const all = Int32Array.from(stays.keys()).filter((token) => stays[token] === 1);
    cache.retain(all);
    const now = new Map(Array.from(all, (token, i) => [token, i]));
    this.cached[block] = {
      tokens: keep.map((index) => now.get(tokens[index] as number) as number),
      originalIndices: keep.map((index) => originalIndices[index] as number),
    };
  }

  private at(block: number): CachedTokens {
    const found = this.cached[block];
    if (!found)
      throw new PruneError('BAD_REDUCTION', `A pruner asked for the cache of block ${block}; the decoder has blocks 0 to ${this.caches.length - 1}.`);
    return found;
  }
}
