import { SingleBar } from 'cli-progress';

/** A bar on stderr, when that is a terminal; nothing otherwise. `stop` takes it away again. */
export interface Progress {
  update(done: number, total: number): void;
  stop(): void;
}

/** `amount` says how much a number is, as in `3.1 of 14.2 MiB`; only the percentage is shown without it. */
export function progressBar(label: string, amount?: (value: number, largest: number) => string): Progress {
  if (!process.stderr.isTTY) return { update() {}, stop() {} };
  const format = `${label} {bar} {percentage}%{amount}`;
  const bar = new SingleBar({ format, stream: process.stderr, clearOnComplete: true, barsize: 30 });
  let started = false;
  return {
    update(done, total) {
      const payload = { amount: amount ? ` ${amount(done, total)} of ${amount(total, total)}` : '' };
      if (!started) bar.start(total, done, payload);
      else {
        bar.setTotal(total); // more may turn out to be wanted
        bar.update(done, payload);
      }
      started = true;
    },
    stop() {
      if (started) bar.stop();
    },
  };
}
