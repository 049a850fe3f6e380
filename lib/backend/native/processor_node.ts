import * as fs from 'node:fs';
import * as tf from '@tensorflow/tfjs';

/** Instructions that multiply in bfloat16. Without them TensorFlow widens each weight at each use. */
const BFLOAT16 = /\b(?:avx512_bf16|amx_bf16)\b/;

export function nativeDevice(): 'cpu' | 'gpu' {
  const backend = tf.findBackend('tensorflow') as { isUsingGpuDevice?: boolean } | null;
  return backend?.isUsingGpuDevice ? 'gpu' : 'cpu';
}

/** Whether the device of the native backend multiplies in a type faster than in float32. No processor does so in float16. */
export function multipliesIn(dtype: 'bfloat16' | 'float16'): boolean {
  return nativeDevice() === 'gpu' || (dtype === 'bfloat16' && cpuHasBfloat16() && bfloat16Hindrance(process.env) === undefined);
}

/** Whether this processor multiplies in bfloat16, as far as Linux says so. */
export function cpuHasBfloat16(): boolean {
  try {
    return BFLOAT16.test(fs.readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false; // no Linux
  }
}

/** The environment variable that keeps TensorFlow from those instructions where the processor has them, with its value; else undefined. */
export function bfloat16Hindrance(environment: Readonly<Record<string, string | undefined>>): string | undefined {
  const { TF_ENABLE_ONEDNN_OPTS: oneDnn = '1', ONEDNN_MAX_CPU_ISA, DNNL_MAX_CPU_ISA } = environment;
  if (/^(?:0|false)$/i.test(oneDnn)) return `TF_ENABLE_ONEDNN_OPTS=${oneDnn}`;
  const limit = ONEDNN_MAX_CPU_ISA ?? DNNL_MAX_CPU_ISA;
  if (limit !== undefined && !/^(?:ALL|DEFAULT|.*(?:BF16|AMX).*)$/i.test(limit)) return `ONEDNN_MAX_CPU_ISA=${limit}`;
  return undefined;
}
