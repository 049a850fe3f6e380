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

/** Waits for work that can't be stopped itself until it is done or the signal is aborted; it goes on unheard then. @throws the signal's reason, at once */
export function abortable<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
