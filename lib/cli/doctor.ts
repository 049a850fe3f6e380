import { fork } from 'node:child_process';
import * as os from 'node:os';
import * as path from 'node:path';
import { type Command, Option } from 'commander';
import { BACKENDS, type BackendName } from '../backend/backends';
import type { CommandContext } from './context';
import { type InstallFlags, install, installedReport } from './doctor_install';
import type { Probe } from './doctor_probe';
import { type Machine, report, verdict } from './doctor_report';
import { print, printJson } from './output';
import { packageVersion, version } from './package_files';
import { progressBar } from './progress';

const PROBE_SECONDS = 60;

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
    let answer: Probe | undefined;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, PROBE_SECONDS * 1000);
    const stop = () => child.kill('SIGKILL');
    signal.addEventListener('abort', stop, { once: true });
    child.on('message', (message) => {
      answer = message as Probe;
    });
    child.on('error', reject);
    child.on('close', (code, killed) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      const reason = late ? `it gave no answer within ${PROBE_SECONDS} s.` : `its process ended with ${killed ?? code}, without an answer.`;
      resolve(answer ?? { backend, available: false, reason });
    });
  });
}

async function probeAll(signal: AbortSignal): Promise<Probe[]> {
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
  return probes;
}

interface DoctorFlags extends InstallFlags {
  readonly json?: boolean;
}

/** `vispruner doctor`: which backends work here and how fast they are; with `--install-native` it gets the native one first. */
export function addDoctor(program: Command, { signal }: CommandContext): void {
  program
    .command('doctor')
    .description('try every backend: which work here, how fast, and what to do about the others')
    .option('--install-native', 'first install the native backend: TensorFlow, with our own products (Linux x86-64; needs g++ and pip)')
    .addOption(new Option('--cuda', 'install it for NVIDIA GPUs (CUDA 12)').conflicts('stock'))
    .option('--stock', "install TensorFlow.js's own binding instead, where its makers' host can be reached: float32 only, nothing to compile")
    .option('--wheel <file...>', 'wheels of TensorFlow that are here already, in place of the download')
    .option('--json', 'print one JSON object')
    .action(async ({ json, ...flags }: DoctorFlags, command: Command) => {
      if (!flags.installNative && (flags.cuda || flags.stock || flags.wheel)) {
        command.error('error: --cuda, --stock and --wheel say how to install: give them with --install-native.');
      }
      const installed = flags.installNative ? await install(flags, signal) : undefined;
      const probes = await probeAll(signal);
      if (json) return printJson({ installed, machine: machine(), ...verdict(probes) }, signal);
      print(`${installed ? installedReport(installed) : ''}${report(machine(), probes)}`, signal);
    });
}
