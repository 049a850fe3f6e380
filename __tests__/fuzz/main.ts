/**
 * Compares our safetensors reader with the official Python package on many files, right and wrong.
 *
 *   npm run fuzz -- --files 100000 --seed 1 [--python python3]
 *   npm run fuzz -- --file a.safetensors            both verdicts about one file
 *   npm run fuzz -- --files 4000 --record verdicts.bin.br   for the tests, which have no Python
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as fc from 'fast-check';
import { corners } from './corners';
import { Oracle } from './oracle';
import { encodeCases, type RecordedCase } from './recorded';
import { type Draft, draftOf, safetensorsFile } from './safetensors_files';
import { compare, GROUNDS, type Outcome, ownVerdict, REFUSALS } from './verdict';

const BATCH = 500;
/** Larger files are not recorded. */
const MAX_RECORDED = 8192;
/** Disagreements that are shown; all are counted. */
const SHOWN = 5;
/** Real files, of which the headers are used. */
const EXISTING = [
  'weights/vispruner-tiny/model.safetensors',
  '__tests__/fixtures/layouts/sharded/model-00001-of-00003.safetensors',
  '__tests__/fixtures/biased/reference.safetensors',
  '__tests__/fixtures/tiny-llava-hf/pruned.safetensors',
];

const print = (line = ''): void => void process.stdout.write(`${line}\n`);

/** Counts by outcome and by our code. */
class Tally {
  readonly outcomes = new Map<Outcome, number>();
  readonly codes = new Map<string, number>();

  add(outcome: Outcome, code: string): void {
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
  }

  report(seconds: number): string {
    const of = (outcome: Outcome): number => this.outcomes.get(outcome) ?? 0;
    const total = [...this.outcomes.values()].reduce((sum, count) => sum + count, 0);
    const line = (what: string, count: number): string => `  ${what.padEnd(52)}${String(count).padStart(9)}`;
    return [
      `${total} files in ${seconds.toFixed(0)} s, ${(total / seconds).toFixed(0)} a second`,
      'Agreements',
      line('both read the same', of('accepted')),
      line('both refuse', of('refused')),
      'Refused here alone, on purpose',
      ...GROUNDS.map(([ground]) => line(ground, of(ground))),
      'Disagreements',
      line('another verdict, or other contents', of('disagreement')),
      'By our verdict',
      ...['read', ...REFUSALS].map((code) => line(code, this.codes.get(code) ?? 0)),
    ].join('\n');
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      files: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      python: { type: 'string', default: process.env.PYTHON ?? 'python3' },
      file: { type: 'string' },
      record: { type: 'string' },
    },
  });
  const { oracle, version } = await Oracle.start(values.python);
  try {
    if (values.file !== undefined) return await judgeOne(oracle, values.file);
    const [files, seed] = [Number(values.files), Number(values.seed)];
    if (!Number.isSafeInteger(files) || files < 0 || !Number.isSafeInteger(seed)) throw new Error('--files and --seed must be whole numbers.');
    print(`Python's safetensors ${version}, fast-check ${fc.__version}, Node ${process.version}, seed ${seed}`);
    return await fuzz(oracle, files, seed, values.record);
  } finally {
    oracle.close();
  }
}

async function fuzz(oracle: Oracle, count: number, seed: number, record?: string): Promise<number> {
  const root = join(__dirname, '..', '..');
  const existing: Draft[] = await Promise.all(EXISTING.map(async (path) => draftOf(await readFile(join(root, path)))));
  const arbitrary = safetensorsFile(existing);
  const tally = new Tally();
  const recorded: RecordedCase[] = [];
  const judge = async (files: readonly Uint8Array[]): Promise<Uint8Array[]> => {
    const disagreements: Uint8Array[] = [];
    for (const [i, official] of (await oracle.judge(files)).entries()) {
      const file = files[i] as Uint8Array;
      const { outcome, own } = await compare(file, official);
      tally.add(outcome, 'refused' in own ? own.refused : 'read');
      if (outcome === 'disagreement') disagreements.push(file);
      if (record !== undefined && file.byteLength <= MAX_RECORDED) recorded.push({ file, official });
    }
    return disagreements;
  };

  const started = performance.now();
  const fixed = corners().slice(0, count);
  let shown = 0;
  const show = async (file: Uint8Array, found: string): Promise<void> => {
    if (++shown > SHOWN) return;
    print(`\nDisagreement, ${found}:\n${await describe(oracle, file)}`);
  };
  for (const file of await judge(fixed)) await show(file, 'one of the fixed corners');
  for (let done = fixed.length, batch = 0; done < count; batch++) {
    const parameters = { seed: (Math.imul(seed, 0x9e3779b1) + batch) | 0, numRuns: Math.min(BATCH, count - done) };
    done += parameters.numRuns;
    if ((await judge(fc.sample(arbitrary, parameters))).length > 0) {
      const agrees = fc.asyncProperty(arbitrary, async (file) => (await compare(file, (await oracle.judge([file]))[0]!)).outcome !== 'disagreement');
      const { counterexample, counterexamplePath, numShrinks } = await fc.check(agrees, parameters);
      const found = `batch ${batch} (fast-check's seed ${parameters.seed}, path ${counterexamplePath}), shrunk ${numShrinks} times`;
      if (counterexample) await show(counterexample[0], found);
    }
  }
  print(tally.report((performance.now() - started) / 1000));
  if (record !== undefined) await writeFile(record, encodeCases(recorded));
  const missed = REFUSALS.filter((code) => !tally.codes.has(code));
  if (missed.length > 0) print(`Not met: ${missed.join(', ')}`);
  return tally.outcomes.has('disagreement') ? 1 : 0;
}

async function judgeOne(oracle: Oracle, path: string): Promise<number> {
  const file = await readFile(path);
  print(await describe(oracle, file));
  return 0;
}

async function describe(oracle: Oracle, file: Uint8Array): Promise<string> {
  const { error, ...own } = await ownVerdict(file);
  const [official] = await oracle.judge([file]);
  return [
    `  bytes     ${Buffer.from(file).toString('base64')}`,
    `  as text   ${JSON.stringify(Buffer.from(file.subarray(8)).toString())}`,
    `  ours      ${JSON.stringify(own)} ${error?.message ?? ''}`,
    `  official  ${JSON.stringify(official)}`,
  ].join('\n');
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
