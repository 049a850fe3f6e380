import type { BackendName } from '../backend/backends';
import type { Probe } from './doctor_probe';
import { bytes, table } from './output';

export interface Machine {
  readonly vispruner: string;
  readonly node: string;
  readonly tfjs: string;
  readonly platform: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
}

const ABSENT: Readonly<Partial<Record<BackendName, string>>> = {
  cuda: 'For an NVIDIA GPU with its driver, on Linux x86-64: "vispruner doctor --install-native --cuda".',
  tensorflow: '"vispruner doctor --install-native" installs it (docs/native.md).',
};

/** What to do about a backend; undefined where nothing is to be done. */
function advice({ available, backend, binding, software }: Probe): string | undefined {
  if (!available) return ABSENT[backend];
  if (software !== undefined) return `A software adapter (${software}): the processor computes, and "auto" never takes it. Use wasm without a GPU.`;
  if (binding === undefined || binding.patch === binding.wanted) return undefined;
  if (binding.patch === 0) return 'This binding is not ours: float32 is what it is good for. "vispruner doctor --install-native" gets ours.';
  return `Its additions are of version ${binding.patch}, and this release is made for ${binding.wanted}: "vispruner doctor --install-native" makes them anew.`;
}

/** What `auto` takes, and the answers of all backends with advice. */
export function verdict(probes: readonly Probe[]): { auto: BackendName | undefined; backends: (Probe & { advice?: string })[] } {
  const auto = probes.find(({ available, backend, software }) => available && backend !== 'cpu' && software === undefined)?.backend;
  return { auto, backends: probes.map((probe) => ({ ...probe, advice: advice(probe) })) };
}

export function report({ vispruner, node, tfjs, platform, cpu, cores, memoryBytes }: Machine, probes: readonly Probe[]): string {
  const { auto, backends } = verdict(probes);
  return [
    `vispruner ${vispruner}, TensorFlow.js ${tfjs}, Node ${node}, ${platform}`,
    `${cpu}, ${cores} cores, ${bytes(memoryBytes)} memory`,
    '',
    table(
      ['backend', 'here', 'dtype', 'GFLOP/s', 'GB/s', 'why, and what to do'],
      backends.flatMap((probe) => rows(probe, auto)),
      [0, 1, 2, 5],
    ),
    ...backends.flatMap(({ binding }) => (binding ? [bindingLine(binding)] : [])),
    'GFLOP/s: a product of many rows with a weight of that type, as in reading a prompt. GB/s: how fast one row times [4096, 4096] reads its weights, 128 MiB',
    'of them in turns, as in writing a token.',
    '',
  ].join('\n');
}

function rows(probe: Probe & { advice?: string }, auto: BackendName | undefined): string[][] {
  const name = probe.backend === auto ? `${probe.backend} (auto)` : probe.backend;
  if (!probe.available) return [[name, 'absent', '', '', '', [probe.reason, probe.advice].filter(Boolean).join(' ')]];
  return (probe.rates ?? []).map(({ dtype, gflops, gigabytes, note }, i) => [
    i === 0 ? name : '',
    i === 0 ? 'works' : '',
    dtype,
    gflops?.toFixed(1) ?? '',
    gigabytes?.toFixed(1) ?? '',
    [note, i === 0 ? probe.advice : undefined].filter(Boolean).join(' '),
  ]);
}

function bindingLine({ tensorflow, patch, device, folder }: NonNullable<Probe['binding']>): string {
  const additions = patch > 0 ? `our additions, version ${patch}` : 'no additions of ours';
  return `binding: TensorFlow ${tensorflow}, ${additions}, on the ${device === 'gpu' ? 'GPU' : 'processor'}; ${folder ?? 'loaded by the host'}\n`;
}
