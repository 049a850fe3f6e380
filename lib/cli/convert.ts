import type { Command } from 'commander';
import { convertCheckpoint } from '../../convert/convert';
import { addConvertOptions, type ConvertFlags, parsePrecision, parseSize } from '../../convert/options';
import type { CommandContext } from './context';
import { bytes, print, printJson } from './output';
import { progressBar } from './progress';

/** `vispruner convert`: what `convert/` does, with this program's ways of progress, errors and interrupts. */
export function addConvert(program: Command, { signal }: CommandContext): void {
  const command = program
    .command('convert')
    .description('write a checkpoint in another precision, size of files, or layout of keys; the target appears when it is complete');
  addConvertOptions(command)
    .option('--json', 'print one JSON object')
    .action(async (source: string, target: string, { dtype, maxShardSize, json, ...flags }: ConvertFlags & { readonly json?: boolean }) => {
      const checked = {
        dtype: dtype === undefined ? undefined : parsePrecision(dtype),
        maxShardBytes: maxShardSize === undefined ? undefined : parseSize(maxShardSize),
      };
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
