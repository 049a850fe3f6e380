import type { KeyValueCache } from '../layers/kv_cache';

/** One sequence in the decoder: its caches, one a block, which may differ in length when tokens were dropped between blocks. */
export class Sequence {
  /** Tokens that entered the first block so far. */
  private entered = 0;

  constructor(
    readonly caches: readonly KeyValueCache[],
    /** What dropped tokens do to position ids: leave gaps that all blocks share (`keep`), or close up in each block that misses them (`compact`). */
    readonly positions: 'keep' | 'compact' = 'keep',
  ) {}

  /** Position id of the next token in the block. */
  nextPosition(block: number): number {
    return this.positions === 'keep' ? this.entered : (this.caches[block] as KeyValueCache).length;
  }

  /** Call it when `tokens` more have gone through all blocks. */
  advance(tokens: number): void {
    this.entered += tokens;
  }

  /** Tokens that all blocks hold; a pass that was broken off leaves some blocks with more. */
  get length(): number {
    return Math.min(...this.caches.map((cache) => cache.length));
  }

  /** Goes back to the first `length` tokens. For sequences from which nothing was dropped between blocks. */
  truncate(length: number): void {
    for (const cache of this.caches) cache.truncate(length);
    this.entered = length;
  }

  fork(): Sequence {
    const copy = new Sequence(
      this.caches.map((cache) => cache.fork()),
      this.positions,
    );
    copy.entered = this.entered;
    return copy;
  }

  dispose(): void {
    for (const cache of this.caches) cache.dispose();
  }
}
