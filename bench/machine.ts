import * as os from 'node:os';

/** One line about where figures were measured. */
export function machine(backend: string): string {
  const cores = os.cpus();
  const load = (os.loadavg()[0] ?? 0).toFixed(1);
  return `${cores[0]?.model.trim()}, ${cores.length} cores (load ${load}), Node ${process.version}, ${process.platform} ${process.arch}, backend ${backend}`;
}
