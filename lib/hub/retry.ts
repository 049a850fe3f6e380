import type { VisPrunerError } from '../../layers/errors';

/** A failure that may be over a moment later: a lost connection, a server that is busy. `error` is what it becomes when it is not. */
export class Transient extends Error {
  constructor(
    readonly error: VisPrunerError,
    /** How long the server asked to be left alone. */
    readonly waitMs?: number,
  ) {
    super(error.message, { cause: error });
  }
}

export interface RetryOptions {
  /** How often something is tried again without getting any further. */
  readonly retries: number;
  readonly signal?: AbortSignal;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** A hub's limits of requests are counted in windows of five minutes. */
const LONGEST_ASKED_WAIT_MS = 300_000;

/**
 * Runs `attempt` until it does not fail with `Transient`, or has so often that it counts as failed; waits twice as long each time. An attempt that calls
 * `progressed` got further than any before it, and the count begins anew.
 * @throws what `attempt` throws, with `Transient` unwrapped; the signal's reason when it is aborted
 */
export async function withRetries<T>(attempt: (progressed: () => void) => Promise<T>, { retries, signal }: RetryOptions): Promise<T> {
  let failures = 0;
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Transient)) throw error;
      if (failures >= retries) throw error.error;
      const usual = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures) * (0.75 + Math.random() / 2); // clients of one failure should not come back as one
      failures++;
      await sleep(error.waitMs === undefined ? usual : Math.min(error.waitMs, LONGEST_ASKED_WAIT_MS), signal);
    }
  }
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = () => {
      signal?.removeEventListener('abort', aborted);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    const aborted = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', aborted, { once: true });
  });
}
