/** What is used of a buffer of the GPU and of tfjs's pool of them. */
interface Buffer {
  readonly size: number;
  destroy(): void;
}

export interface BufferPool {
  /** Free buffers by size and use: one is taken again for a tensor of exactly its size only. */
  readonly freeBuffers: ReadonlyMap<string, Buffer[]>;
  numFreeBuffers: number;
  numBytesAllocated: number;
  readonly numBytesUsed: number;
  releaseBuffer(buffer: Buffer, reuse?: boolean): void;
}

/** Bytes of free buffers that are kept at least. */
const LEAST = 2 ** 27;

/** Free bytes that are kept for each byte in use. */
const SHARE = 1 / 4;

/**
 * Destroys the pool's free buffers when they become many. tfjs keeps them for ever, and takes one again for the same size only; keys and values of a sequence have
 * another size with every token, so that the GPU's memory would fill up by all that was ever attended to.
 */
export function trimFreeBuffers(pool: BufferPool): void {
  const release = pool.releaseBuffer.bind(pool);
  pool.releaseBuffer = (buffer, reuse) => {
    release(buffer, reuse);
    const free = pool.numBytesAllocated - pool.numBytesUsed;
    if (free > Math.max(LEAST, SHARE * pool.numBytesUsed)) destroyFree(pool);
  };
}

/** They are in no command that is still to be submitted: a tensor that is in one is released after the submission. */
function destroyFree(pool: BufferPool): void {
  for (const buffers of pool.freeBuffers.values()) {
    for (const buffer of buffers.splice(0)) {
      buffer.destroy();
      pool.numFreeBuffers--;
      pool.numBytesAllocated -= buffer.size;
    }
  }
}
