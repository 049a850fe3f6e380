/**
 * The server under load: the program itself as a child process, 200 requests of several kinds by autocannon and from clients that go away, each reply
 * compared with what the model answers when it is asked directly.
 *
 *   npm run bench:server                             on wasm, with and without the caches
 *   npm run bench:server -- --requests 1000 --connections 32 --backend tensorflow
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { type BackendName, loadModel } from '../lib/index';
import { machine } from './machine';
import { type Load, load, mixed, type Observed } from './server_load';
import { type Kind, type LoadRequest, rightRequests, type Verdict, wrongRequests } from './server_requests';
import { median, percentile, table } from './statistics';

const MODEL = 'weights/vispruner-tiny';
const NAME = 'vispruner-tiny';
const MAX_BODY = 2_000_000;
/** Memory is flat when it grows by no more than this: JavaScript's heap breathes. */
const FLAT_BYTES = 64 * 2 ** 20;
/** It is warm when a round of load adds no more than this, or after so many rounds. */
const WARM_BYTES = 16 * 2 ** 20;
const MOST_ROUNDS = 8;

interface Gauges {
  readonly rss: number;
  readonly tensors: number;
  readonly bytes: number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      backend: { type: 'string', default: 'wasm' },
      requests: { type: 'string', default: '200' },
      connections: { type: 'string', default: '16' },
    },
  });
  const model = await loadModel(MODEL, { backend: values.backend as BackendName });
  console.log(`${machine(model.backend)}\n`);
  const right = await rightRequests(model, NAME);
  model.dispose();
  const failed: string[] = [];
  for (const flags of [['--no-cache'], []]) {
    const title = flags.length > 0 ? 'Every request computed anew (--no-cache)' : 'With the caches of conversations and images';
    console.log(`${title}\n`);
    failed.push(...(await underLoad(['--backend', values.backend, ...flags], right, Number(values.requests), Number(values.connections))));
  }
  if (failed.length > 0) throw new Error(failed.join('; '));
}

/** Runs one server; returns what was not as it should be. */
async function underLoad(flags: readonly string[], right: readonly LoadRequest[], count: number, connections: number): Promise<string[]> {
  const { child, url } = await start(flags);
  try {
    const share = (part: number) => Math.round(count * part);
    const wrong = wrongRequests(NAME, MAX_BODY);
    const malformed = wrong.filter(({ kind }) => kind === 'malformed');
    const huge = wrong.filter(({ kind }) => kind === 'huge');
    const requests = mixed([...mixed(right, share(0.55)), ...mixed(malformed, share(0.2))], share(0.55) + share(0.2));
    const others = mixed([...mixed(huge, share(0.05)), ...mixed(right, count - requests.length - share(0.05))], count - requests.length);
    const round = () => load(url, requests, others, connections);
    const { rounds, before } = await warmUp(url, round);
    const done = await round();
    const after = await gauges(url);
    console.log(`${kinds(done.observed)}\n`);
    console.log(
      `${count} requests over ${connections} connections and one more: ${done.seconds.toFixed(1)} s, ${(count / done.seconds).toFixed(1)} a second`,
    );
    console.log(`Memory after ${rounds} such rounds to warm up ${megabytes(before.rss)}, after this one ${megabytes(after.rss)}`);
    console.log(`Tensors ${before.tensors} before, ${after.tensors} after; bytes ${before.bytes} before, ${after.bytes} after`);
    const code = await stop(child);
    console.log(`Ended by SIGTERM with code ${code}\n`);
    return problems(done, before, after, flags.includes('--no-cache'), code);
  } finally {
    child.kill('SIGKILL');
  }
}

/** The caches fill, and the heap finds its size. */
async function warmUp(url: string, round: () => Promise<Load>): Promise<{ rounds: number; before: Gauges }> {
  let before = await gauges(url);
  for (let rounds = 1; ; rounds++) {
    await round();
    const after = await gauges(url);
    if (after.rss - before.rss <= WARM_BYTES || rounds === MOST_ROUNDS) return { rounds, before: after };
    before = after;
  }
}

function problems({ observed, errors }: Load, before: Gauges, after: Gauges, exact: boolean, code: number | null): string[] {
  const wrong = observed.filter(({ verdict }) => verdict === 'wrong').length;
  const leaked = exact && (after.tensors !== before.tensors || after.bytes !== before.bytes);
  const found: [boolean, string][] = [
    [wrong > 0, `${wrong} replies were wrong`],
    [errors > 0, `${errors} connections failed`],
    [leaked, 'tensors leaked'],
    [after.rss - before.rss > FLAT_BYTES, `memory grew by ${megabytes(after.rss - before.rss)}`],
    [code !== 0, `the server ended with code ${code}`],
  ];
  return found.filter(([bad]) => bad).map(([, what]) => what);
}

function kinds(observed: readonly Observed[]): string {
  const rows = (['whole', 'stream', 'malformed', 'huge', 'aborted'] satisfies Kind[]).map((kind) => {
    const own = observed.filter((one) => one.kind === kind);
    const count = (verdict: Verdict) => String(own.filter((one) => one.verdict === verdict).length);
    const times = own.map(({ milliseconds }) => milliseconds);
    const latency = [median(times), percentile(times, 0.9), percentile(times, 0.99)].map((value) => value.toFixed(0));
    return [kind, String(own.length), ...(['answered', 'refused', 'busy', 'aborted', 'wrong'] satisfies Verdict[]).map(count), ...latency];
  });
  return table(['kind', 'requests', 'answered', 'refused', 'busy', 'gone away', 'wrong', 'p50, ms', 'p90, ms', 'p99, ms'], rows);
}

/** Once nothing runs. */
async function gauges(url: string): Promise<Gauges> {
  for (;;) {
    const text = await (await fetch(`${url}/metrics`)).text();
    const read = (name: string) => Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
    if (read('vispruner_requests_in_flight') + read('vispruner_queue_length') === 0) {
      return { rss: read('process_resident_memory_bytes'), tensors: read('tfjs_tensors'), bytes: read('tfjs_bytes') };
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function start(flags: readonly string[]): Promise<{ child: ChildProcess; url: string }> {
  const command = [require.resolve('ts-node/dist/bin'), 'lib/cli/main.ts', 'serve', '--model', MODEL, '--port', '0', '--json', '--quiet'];
  const child = spawn(process.execPath, [...command, '--max-body', String(MAX_BODY), ...flags], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    child.once('exit', (code) => reject(new Error(`The server ended with code ${code} before it listened.`)));
  });
  return { child, url: (JSON.parse(line) as { url: string }).url };
}

function stop(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once('exit', resolve);
    child.kill('SIGTERM');
  });
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
