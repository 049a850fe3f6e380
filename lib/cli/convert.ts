import type { Command } from 'commander';
import { convertCheckpoint } from '../../convert/convert';
import { parsePrecision, parseSize } from '../../convert/options';
import { LAYOUTS } from '../../weights/layouts';
import type { CommandContext } from './context';
import { asUse } from './errors';
import { bytes, print, printJson } from './output';
import { progressBar } from './progress';

interface ConvertFlags {
  readonly dtype?: string;
  readonly maxShardSize?: string;
  readonly layout?: string;
  readonly overwrite?: boolean;
  readonly checkFinite?: boolean;
  readonly json?: boolean;
}

/** `vispruner convert`: what `convert/` does, with this program's ways of progress, errors and interrupts. */
export function addConvert(program: Command, { signal }: CommandContext): void {
  program
    .command('convert')
    .description('write a checkpoint in another precision, size of files, or layout of keys; the target appears when it is complete')
    .argument('<source>', 'directory with model.safetensors, or its shards and index')
    .argument('<target>', 'directory to make')
    .option('--dtype <name>', 'float32, float16 or bfloat16 (default: as it is)')
    .option('--max-shard-size <size>', 'largest file, like 500MB or 2GiB (default: 5GB)')
    .option('--layout <name>', `layout of keys: ${LAYOUTS.map(({ name }) => name).join(', ')} (default: as it is)`)
    .option('--overwrite', 'replace a target that exists')
    .option('--check-finite', 'refuse weights that are NaN or infinite')
    .option('--json', 'print one JSON object')
    .action(async (source: string, target: string, { dtype, maxShardSize, json, ...flags }: ConvertFlags) => {
      const checked = asUse(() => ({
        dtype: dtype === undefined ? undefined : parsePrecision(dtype),
        maxShardBytes: maxShardSize === undefined ? undefined : parseSize(maxShardSize),
      }));
      const bar = progressBar('Converting');
      const progress = (step: { bytes: number; totalBytes: number }) => bar.update(step.bytes, step.totalBytes);
      const report = await convertCheckpoint(source, target, { ...flags, ...checked, progress, signal }).finally(() => bar.stop());
      for (const warning of report.warnings) console.error(`warning: ${warning}`);
      if (report.dropped.length > 0) console.error(`left out, for no release needs them: ${report.dropped.join(', ')}`);
      if (json) return printJson({ target, ...report }, signal);
      const copied = report.copied.length > 0 ? `; copied ${report.copied.join(', ')}` : '';
      print(`${target}: ${report.tensors} tensors, ${bytes(report.bytes)} in ${report.files.join(', ')}${copied}\n`, signal);
    });
}
