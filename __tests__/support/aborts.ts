export class Aborted extends Error {
  constructor(readonly check: number) {
    super(`aborted at look ${check}`);
  }
}

export interface WatchedSignal {
  readonly signal: AbortSignal;
  /** How often the code looked at the signal so far. */
  readonly looks: number;
}

/** A signal that is aborted just before the code looks at it for the `last`th time, and tells `onLook` of each look. */
export function watchedSignal(last: number = Number.POSITIVE_INFINITY, onLook: () => void = () => {}): WatchedSignal {
  const controller = new AbortController();
  const { signal } = controller;
  const look = signal.throwIfAborted.bind(signal);
  let looks = 0;
  signal.throwIfAborted = () => {
    onLook();
    if (++looks === last) controller.abort(new Aborted(looks));
    look();
  };
  return {
    signal,
    get looks() {
      return looks;
    },
  };
}
