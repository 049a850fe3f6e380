/** Long work in short parts: it can pause wherever it yields. */
export type Steps<T> = Generator<void, T, void>;

/** Waits its turn where there is something to wait for. @throws the signal's reason once that is aborted */
export type Pause = () => Promise<void>;

/** All steps at once. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** All steps, with a pause between them. */
export async function paced<T>(steps: Steps<T>, pause: Pause): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    await pause();
  }
}

/** Lets timers, sockets and abort signals have their turn: CPU backends, and JavaScript itself, compute synchronously and would starve them. */
export class Pacer {
  private last = performance.now();

  constructor(
    private readonly signal?: AbortSignal | undefined,
    private readonly interval = 30,
  ) {}

  /** Waits one macrotask when the last wait was `interval` ms ago or longer. @throws the signal's reason once it is aborted */
  readonly pause: Pause = async () => {
    if (performance.now() - this.last >= this.interval) {
      await nextMacrotask();
      this.last = performance.now();
    }
    this.signal?.throwIfAborted();
  };
}

function nextMacrotask(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}
