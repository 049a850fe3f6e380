import { RequestError } from './errors';

/** How much of an older mean a newer duration leaves. */
const MEMORY = 0.8;

interface Waiting {
  start(): void;
  fail(reason: unknown): void;
}

/** Turns at something that does one thing at a time: in order of arrival, with a bound on how many may wait. */
export class TurnQueue {
  private readonly waiting: Waiting[] = [];
  private runningSince: number | undefined;
  private meanMs = 1000;
  private closed = false;

  /** @param limit how many may wait, besides the one whose turn it is */
  constructor(private readonly limit: number) {}

  /** Whether it was closed. */
  get ending(): boolean {
    return this.closed;
  }

  /** How many wait. */
  get length(): number {
    return this.waiting.length;
  }

  get running(): boolean {
    return this.runningSince !== undefined;
  }

  /** @throws RequestError `QUEUE_FULL`, `SERVER_ENDING` */
  checkRoom(): void {
    if (this.closed) throw ending();
    if (this.running && this.waiting.length >= this.limit) {
      throw new RequestError('QUEUE_FULL', `${this.waiting.length} requests wait already, which is the most this server lets wait. Try again.`, {
        retryAfter: this.retryAfter(),
      });
    }
  }

  /**
   * Waits for a turn; the returned function ends it. A signal that is aborted gives the place up.
   * @throws RequestError `QUEUE_FULL`, `SERVER_ENDING`; the signal's reason
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    this.checkRoom();
    if (this.running) await this.wait(signal);
    const begun = performance.now();
    this.runningSince = begun;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.meanMs = MEMORY * this.meanMs + (1 - MEMORY) * (performance.now() - begun);
      this.runningSince = undefined;
      this.waiting.shift()?.start();
    };
  }

  /** Refuses whoever waits and whoever comes. */
  close(): void {
    this.closed = true;
    for (const one of this.waiting.splice(0)) one.fail(ending());
  }

  /** Seconds until a place is likely to be free, by how long turns have taken: at least 1. */
  private retryAfter(): number {
    const elapsed = this.runningSince === undefined ? 0 : performance.now() - this.runningSince;
    return Math.max(1, Math.ceil((this.meanMs - elapsed) / 1000));
  }

  private wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.waiting.splice(this.waiting.indexOf(one), 1);
        reject(signal.reason);
      };
      const one: Waiting = {
        start: () => {
          signal.removeEventListener('abort', leave);
          this.runningSince = performance.now(); // nobody may come in between before the promise's continuation runs
          resolve();
        },
        fail: (reason) => {
          signal.removeEventListener('abort', leave);
          reject(reason);
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      this.waiting.push(one);
    });
  }
}

/** For whoever comes when the server is ending. */
export function ending(): RequestError {
  return new RequestError('SERVER_ENDING', 'This server is ending and takes no more requests. Ask another one, or this one once it is back.', {
    retryAfter: 5,
  });
}
