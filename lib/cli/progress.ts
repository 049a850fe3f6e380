import { SingleBar } from 'cli-progress';

/** A bar on stderr, when that is a terminal; nothing otherwise. `stop` takes it away again. */
export interface Progress {
  update(done: number, total: number): void;
  stop(): void;
}

export function progressBar(label: string): Progress {
  if (!process.stderr.isTTY) return { update() {}, stop() {} };
  const bar = new SingleBar({ format: `${label} {bar} {percentage}%`, stream: process.stderr, clearOnComplete: true, barsize: 30 });
  let started = false;
  return {
    update(done, total) {
      if (!started) bar.start(total, done);
      else bar.update(done);
      started = true;
    },
    stop() {
      if (started) bar.stop();
    },
  };
}
