/**
 * A real small decoder here and in its peers, in one run, in turns: time to the first token and tokens per second, behind prompts of several lengths.
 *
 *   npm run bench:small -- --model runs/smollm2/float32 --gguf runs/smollm2/Q4_1.gguf,runs/smollm2/F16.gguf --peer .venv/bin/python
 *
 * `__tests__/fixtures/make/smollm2.py` makes the models. --gguf: for npm's node-llama-cpp, which is looked for in runs/peers; --peer: a Python with torch
 * and transformers. Left out, those peers are. --only: contenders whose names have one of these words, such as "tensorflow,llama.cpp". All take the same
 * ids, none keeps anything from one prompt to the next, and each waits while another works.
 */
import { existsSync, readFileSync } from 'node:fs';
import * as os from 'node:os';
import { parseArgs } from 'node:util';
import { WEIGHT_DTYPES } from '../lib/index';
import { machine } from './machine';
import { type Done, type Ready, Worker } from './small_worker';
import { table } from './statistics';

const PEERS = 'runs/peers';
const INSTALL = [
  `node-llama-cpp is not installed in ${PEERS}. These lines do that, for this benchmark alone (85 MB, its binary comes as a package too):`,
  `  mkdir -p ${PEERS} && cd ${PEERS} && npm init -y`,
  '  npm install --ignore-scripts --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1',
].join('\n');

/** Where this package runs, and with what weights. */
const HERE: Readonly<Record<string, readonly string[]>> = {
  tensorflow: WEIGHT_DTYPES.filter((dtype) => dtype !== 'auto'),
  wasm: ['float32'],
};

interface Contender {
  readonly name: string;
  readonly worker: Worker;
  readonly model: string;
  readonly bytes: number;
}

interface Result {
  first: number;
  step: number;
  ids: readonly number[];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      model: { type: 'string' },
      gguf: { type: 'string' },
      peer: { type: 'string' },
      only: { type: 'string' },
      lengths: { type: 'string', default: '64,256,1024' },
      tokens: { type: 'string', default: '33' },
      rounds: { type: 'string', default: '3' },
      threads: { type: 'string', default: String(os.availableParallelism()) },
    },
  });
  if (!values.model) throw new Error('Give a directory: --model runs/smollm2/float32');
  const lengths = values.lengths.split(',').map(Number);
  const newTokens = Number(values.tokens);
  const workers: [name: string, worker: Worker][] = [];
  const wanted = (name: string) => values.only === undefined || values.only.split(',').some((word) => name.includes(word));
  for (const [backend, dtypes] of Object.entries(HERE)) {
    const own = dtypes.filter((dtype) => wanted(`here, ${backend} ${dtype}`));
    if (own.length > 0) workers.push([`here, ${backend}`, here(values.model, backend, own)]);
  }
  if (values.peer) {
    const dtypes = ['float32', 'bfloat16'].filter((dtype) => wanted(`transformers ${dtype}`));
    if (dtypes.length > 0) {
      const script = ['bench/small_transformers.py', values.model, values.threads, ...dtypes];
      workers.push(['transformers', new Worker('transformers', values.peer, script)]);
    }
  }
  if (values.gguf && wanted('llama.cpp')) {
    if (!existsSync(`${PEERS}/node_modules/node-llama-cpp/package.json`)) throw new Error(INSTALL);
    workers.push([
      'llama.cpp',
      new Worker('llama.cpp', process.execPath, ['bench/small_llama_cpp.mjs', PEERS, values.threads, ...values.gguf.split(',')]),
    ]);
  }
  const contenders: Contender[] = [];
  const versions: string[] = [];
  for (const [name, worker] of workers) {
    const { version, models }: Ready = await worker.ready();
    versions.push(`${name}: ${version}`);
    for (const [model, bytes] of Object.entries(models)) contenders.push({ name: `${name} ${model}`, worker, model, bytes });
  }
  const prompt = promptOf(Math.max(...lengths));
  const results = contenders.map(() => lengths.map((): Result => ({ first: Number.POSITIVE_INFINITY, step: Number.POSITIVE_INFINITY, ids: [] })));
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [place, length] of lengths.entries()) {
      for (const [i, { worker, model }] of contenders.entries()) {
        const done = await worker.run({ model, ids: prompt.slice(0, length), newTokens: round === 0 ? 2 : newTokens });
        if (round > 0) keep(results[i]?.[place] as Result, done); // the first is for warmth
      }
    }
  }
  for (const [, worker] of workers) worker.stop();
  report({ contenders, results, lengths, newTokens, rounds: values.rounds, threads: values.threads, versions });
}

function here(model: string, backend: string, dtypes: readonly string[]): Worker {
  return new Worker(backend, process.execPath, ['-r', 'ts-node/register', 'bench/small_here.ts', model, backend, ...dtypes]);
}

function keep(result: Result, { first, rest, ids }: Done): void {
  result.first = Math.min(result.first, first);
  result.step = Math.min(result.step, rest / (ids.length - 1));
  result.ids = ids;
}

/** Ids of real text, which was recorded with the model's tokenizer. */
function promptOf(length: number): readonly number[] {
  const { cases } = JSON.parse(readFileSync('__tests__/fixtures/smollm2.json', 'utf8')) as { cases: { ids: number[] }[] };
  const longest = cases.map(({ ids }) => ids).reduce((a, b) => (b.length > a.length ? b : a));
  if (longest.length < length) throw new Error(`The recorded text has ${longest.length} tokens; --lengths asks for ${length}.`);
  return longest;
}

interface Report {
  readonly contenders: readonly Contender[];
  readonly results: readonly (readonly Result[])[];
  readonly lengths: readonly number[];
  readonly newTokens: number;
  readonly rounds: string;
  readonly threads: string;
  readonly versions: readonly string[];
}

function report({ contenders, results, lengths, newTokens, rounds, threads, versions }: Report): void {
  console.log(`${machine('see below')}, ${threads} threads\n${versions.join('\n')}`);
  console.log(`\nLowest of ${rounds} rounds, in turns; ${newTokens} new tokens, greedily, behind prompts of ${lengths.join(', ')} tokens.`);
  console.log('"as the first": how many of the new tokens, behind each prompt, are those of the first line before one differs.\n');
  const header = [
    'what',
    'weights, MB',
    ...lengths.map((length) => `first of ${length}, ms`),
    ...lengths.map((length) => `tokens/s at ${length}`),
    `GB/s at ${lengths[0]}`,
    'as the first',
  ];
  const rows = contenders.map(({ name, bytes }, i) => {
    const own = results[i] as readonly Result[];
    return [
      name,
      (bytes / 1e6).toFixed(0),
      ...own.map(({ first }) => first.toFixed(0)),
      ...own.map(({ step }) => (1000 / step).toFixed(1)),
      (bytes / 1e6 / (own[0] as Result).step).toFixed(1),
      own.map(({ ids }, place) => agreeing(ids, results[0]?.[place]?.ids as readonly number[])).join(' '),
    ];
  });
  console.log(table(header, rows));
}

function agreeing(ids: readonly number[], others: readonly number[]): number {
  const first = ids.findIndex((id, i) => id !== others[i]);
  return first < 0 ? ids.length : first;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
