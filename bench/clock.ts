export interface Clocked<T> {
  readonly value: T;
  /** Milliseconds that passed. */
  readonly passed: number;
  /** Milliseconds of processor time that this program took meanwhile: what other programs do hardly changes it. */
  readonly processor: number;
}

export async function clocked<T>(run: () => Promise<T>): Promise<Clocked<T>> {
  const begun = performance.now();
  const before = process.cpuUsage();
  const value = await run();
  const { user, system } = process.cpuUsage(before);
  return { value, passed: performance.now() - begun, processor: (user + system) / 1000 };
}
