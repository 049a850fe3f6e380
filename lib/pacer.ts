export { finish, Pacer, type Pause, paced, type Steps } from '../weights/pacer';

/** Runs what it is given one after another, in order of arrival; a failure does not hold up the next. */
export class Queue {
  private tail: Promise<unknown> = Promise.resolve();

  /** Waits for its turn; the returned function ends it. @throws the signal's reason, at once, when it is aborted while waiting */
  async enter(signal?: AbortSignal): Promise<() => void> {
    let leave: () => void = () => {};
    const before = this.tail;
    this.tail = new Promise<void>((resolve) => {
      leave = resolve;
    });
    try {
      await abortable(before, signal);
    } catch (reason) {
      void before.then(leave); // whoever came later still waits for those before
      throw reason;
    }
    return leave;
  }
}

/** What the promise gives. What it stands for goes on when it is no longer waited for. @throws the signal's reason, at once, when it is aborted meanwhile */
export async function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  signal.throwIfAborted();
  let stop: () => void = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
