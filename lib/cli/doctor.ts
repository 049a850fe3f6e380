import { fork } from 'node:child_process';
import * as os from 'node:os';
import * as path from 'node:path';
import type { Command } from 'commander';
import { BACKENDS, type BackendName } from '../backend/backends';
import type { CommandContext } from './context';
import type { Probe } from './doctor_probe';
import { bytes, print, printJson, table } from './output';
import { packageVersion, version } from './package_files';
import { progressBar } from './progress';

const PROBE_SECONDS = 60;

const ADVICE: Readonly<Partial<Record<BackendName, string>>> = {
  cuda: 'It needs Linux, an NVIDIA GPU with its driver, and @tensorflow/tfjs-node-gpu.',
  webgpu: 'It is for pages: a browser has it.',
};

interface Machine {
  readonly vispruner: string;
  readonly node: string;
  readonly tfjs: string;
  readonly platform: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
}

function machine(): Machine {
  const cores = os.cpus();
  return {
    vispruner: version(),
    node: process.version,
    tfjs: packageVersion('@tensorflow/tfjs'),
    platform: `${process.platform} ${process.arch}`,
    cpu: cores[0]?.model.trim() ?? 'unknown',
    cores: cores.length,
    memoryBytes: os.totalmem(),
  };
}

/** Tries a backend in a child process, for a process can have one only, and a native one that is broken may take its process along. */
function probeBackend(backend: BackendName, signal: AbortSignal): Promise<Probe> {
  return new Promise((resolve, reject) => {
    const child = fork(path.join(__dirname, `doctor_probe${path.extname(__filename)}`), [backend], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    let answer: Probe = { backend, available: false, reason: 'its process ended without an answer.' };
    const timer = setTimeout(() => {
      answer = { backend, available: false, reason: `it gave no answer within ${PROBE_SECONDS} s.` };
      child.kill('SIGKILL');
    }, PROBE_SECONDS * 1000);
    const stop = () => child.kill('SIGKILL');
    signal.addEventListener('abort', stop, { once: true });
    child.on('message', (message) => {
      answer = message as Probe;
    });
    child.on('error', reject);
    child.on('close', () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      resolve(answer);
    });
  });
}

/** `vispruner doctor`: which backends work here and how fast they are. */
export function addDoctor(program: Command, { signal }: CommandContext): void {
  program
    .command('doctor')
    .description('try every backend: which work here, how fast, and what to do about the others')
    .option('--json', 'print one JSON object')
    .action(async ({ json }: { json?: boolean }) => {
      const probes: Probe[] = [];
      const bar = progressBar('Trying backends');
      try {
        for (const [i, backend] of BACKENDS.entries()) {
          bar.update(i, BACKENDS.length);
          probes.push(await probeBackend(backend, signal));
          signal.throwIfAborted();
        }
      } finally {
        bar.stop();
      }
      const auto = probes.find(({ available, backend }) => available && backend !== 'cpu')?.backend;
      if (json)
        return printJson(
          { machine: machine(), auto, backends: probes.map((probe) => ({ ...probe, advice: probe.available ? undefined : ADVICE[probe.backend] })) },
          signal,
        );
      print(report(probes, auto), signal);
    });
}

function report(probes: readonly Probe[], auto: BackendName | undefined): string {
  const { vispruner, node, tfjs, platform, cpu, cores, memoryBytes } = machine();
  const rows = probes.map(({ backend, available, gflops, gigabytes, reason }) => [
    backend === auto ? `${backend} (auto)` : backend,
    available ? 'works' : 'absent',
    gflops?.toFixed(1) ?? '',
    gigabytes?.toFixed(1) ?? '',
    available ? '' : [reason, ADVICE[backend]].filter(Boolean).join(' '),
  ]);
  return [
    `vispruner ${vispruner}, TensorFlow.js ${tfjs}, Node ${node}, ${platform}`,
    `${cpu}, ${cores} cores, ${bytes(memoryBytes)} memory`,
    '',
    table(['backend', 'here', 'GFLOP/s', 'GB/s', 'why, and what to do'], rows, [0, 1, 4]),
    'GFLOP/s: a float32 product [256, 512] x [512, 512], as in reading a prompt. GB/s: weights read by one row times [4096, 4096], as in writing a token.',
    '',
  ].join('\n');
}
