/** Lets timers, sockets and abort signals have their turn: CPU backends compute synchronously and would starve them. */
export class Pacer {
  private last = performance.now();

  constructor(
    private readonly signal?: AbortSignal | undefined,
    private readonly interval = 30,
  ) {}

  /** Waits one macrotask when the last wait was `interval` ms ago or longer. @throws the signal's reason once it is aborted */
  async pause(): Promise<void> {
    if (performance.now() - this.last >= this.interval) {
      await nextMacrotask();
      this.last = performance.now();
    }
    this.signal?.throwIfAborted();
  }
}

function nextMacrotask(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}

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

async function abortable(promise: Promise<unknown>, signal?: AbortSignal): Promise<void> {
  if (!signal) {
    await promise;
    return;
  }
  signal.throwIfAborted();
  let stop: () => void = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
