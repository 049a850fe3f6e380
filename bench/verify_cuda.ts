/**
 * Whether this package computes rightly on an NVIDIA GPU, and how fast. It ends with a report for an issue: no GPU has run this backend yet.
 *
 *   npm run vispruner -- doctor --install-native --cuda
 *   npm run verify:cuda [-- --on-cpu]
 *
 * For each type of weights, in a process of its own: the recorded logits, selections and answers of transformers (the fixtures and tolerances of the
 * tests), what is left in memory, and rates. `--on-cpu` runs all of it on the backend "tensorflow". Ends with 1 when something failed.
 */
import { fork, spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from './machine';
import { table } from './statistics';
import type { Finding } from './verify_fixtures';
import type { Plan } from './verify_worker';

/** Names of the plans that each backend is put to. NVIDIA's libraries compute float32 products in TF32 (10 bits) unless they are told not to. */
const PLANS: readonly Plan[] = [
  { title: 'float32', dtype: 'float32', exact: true },
  { title: 'float32 in TF32', dtype: 'float32', exact: false },
  { title: 'bfloat16', dtype: 'bfloat16', exact: true },
  { title: 'float16', dtype: 'float16', exact: true },
];

const VERDICT = { true: 'ok', false: 'FAILED', undefined: '' } as const;

const MINUTES = 10;

function run(plan: Plan, backend: 'cuda' | 'tensorflow'): Promise<Finding[]> {
  const environment = plan.exact ? { NVIDIA_TF32_OVERRIDE: '0' } : {};
  const child = fork(path.join(__dirname, 'verify_worker.ts'), [JSON.stringify(plan), backend], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    timeout: MINUTES * 60_000,
  });
  const findings: Finding[] = [];
  let complaints = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-1000);
  });
  child.on('message', (message) => findings.push(message as Finding));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code !== 0) findings.push({ what: 'the process', found: `ended with ${signal ?? code}: ${complaints.trim()}`, right: false });
      resolve(findings);
    });
  });
}

function gpus(): string {
  const { status, stdout } = spawnSync('nvidia-smi', ['--query-gpu=name,driver_version,memory.total,compute_cap', '--format=csv,noheader'], {
    encoding: 'utf8',
  });
  return status === 0 ? stdout.trim() : 'nvidia-smi does not run here';
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { 'on-cpu': { type: 'boolean', default: false } } });
  const backend = values['on-cpu'] ? 'tensorflow' : 'cuda';
  const rows: string[][] = [];
  let failures = 0;
  for (const plan of values['on-cpu'] ? PLANS.filter(({ exact }) => exact) : PLANS) {
    for (const { what, found, right } of await run(plan, backend)) {
      if (right === false) failures++;
      rows.push([plan.title, what, found.replaceAll('\n', ' ').replaceAll('|', '\\|'), VERDICT[`${right}`]]);
    }
  }
  console.log(`### verify:cuda: ${failures === 0 ? 'all ok' : `${failures} FAILED`}\n\n${machine(backend)}\nGPU: ${gpus()}\n`);
  console.log(table(['weights', 'what', 'found', ''], rows));
  process.exitCode = failures === 0 ? 0 : 1;
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
