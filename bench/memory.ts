import { readFileSync, writeFileSync } from 'node:fs';

/** From now on `peakMemory` tells of what comes. Elsewhere than on Linux nothing happens. */
export function resetPeakMemory(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // no Linux, or not allowed: the peak is that of the whole life of the process
  }
}

/** Most bytes of memory that this process held at once since the last reset, its share of the file cache not counted; NaN where it can't be known. */
export function peakMemory(): number {
  try {
    const [, kibibytes] = /VmHWM:\s*(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    return Number(kibibytes) * 1024;
  } catch {
    return Number.NaN;
  }
}
