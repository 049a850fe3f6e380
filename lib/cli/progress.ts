import { SingleBar } from 'cli-progress';

/** A bar on stderr, when that is a terminal; nothing otherwise. `stop` takes it away again. */
export interface Progress {
  /** With `seconds`, those and how many more there may be are shown. */
  update(done: number, total: number, seconds?: number): void;
  stop(): void;
}

/** `amount` says how much a number is, as in `3.1 of 14.2 MiB`; only the percentage is shown without it. */
export function progressBar(label: string, amount?: (value: number, largest: number) => string): Progress {
  if (!process.stderr.isTTY) return { update() {}, stop() {} };
  const format = `${label} {bar} {percentage}%{amount}{time}`;
  const bar = new SingleBar({ format, stream: process.stderr, clearOnComplete: true, barsize: 30 });
  let started = false;
  return {
    update(done, total, seconds) {
      const payload = { amount: amount ? ` ${amount(done, total)} of ${amount(total, total)}` : '', time: timeOf(done, total, seconds) };
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

function timeOf(done: number, total: number, seconds: number | undefined): string {
  if (seconds === undefined || done === 0) return '';
  return `, ${seconds.toFixed(0)} s, ${((seconds * (total - done)) / done).toFixed(0)} s to go`;
}
