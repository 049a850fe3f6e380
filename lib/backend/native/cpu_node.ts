import * as fs from 'node:fs';

/** Instructions that multiply in bfloat16. Without them TensorFlow converts each weight at each use. */
const BFLOAT16 = /\b(?:avx512_bf16|amx_bf16)\b/;

/** Whether this processor multiplies in bfloat16, as far as Linux says so. */
export function cpuHasBfloat16(): boolean {
  try {
    return BFLOAT16.test(fs.readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false; // no Linux
  }
}

/**
 * Why TensorFlow does not use those instructions although the processor has them: an environment variable that was set; else undefined.
 * Products in bfloat16 are then 2 to 20 times slower (measured).
 */
export function bfloat16Hindrance(): string | undefined {
  const { TF_ENABLE_ONEDNN_OPTS: oneDnn = '1', ONEDNN_MAX_CPU_ISA, DNNL_MAX_CPU_ISA } = process.env;
  if (/^(?:0|false)$/i.test(oneDnn)) return `TF_ENABLE_ONEDNN_OPTS=${oneDnn}`;
  const limit = ONEDNN_MAX_CPU_ISA ?? DNNL_MAX_CPU_ISA;
  if (limit !== undefined && !/^(?:ALL|DEFAULT|.*(?:BF16|AMX).*)$/i.test(limit)) return `ONEDNN_MAX_CPU_ISA=${limit}`;
  return undefined;
}
