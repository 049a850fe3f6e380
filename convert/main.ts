import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { VisPrunerError } from '../layers/errors';
import { convertCheckpoint } from './convert';
import { addConvertOptions, type ConvertFlags, parsePrecision, parseSize } from './options';

async function run(source: string, target: string, given: ConvertFlags): Promise<void> {
  const abort = new AbortController();
  process.once('SIGINT', () => abort.abort(new Error('Interrupted; nothing was written.')));
  const bar = process.stderr.isTTY
    ? new SingleBar({ format: '{bar} {percentage}% | {name}', stream: process.stderr, clearOnComplete: true })
    : undefined;
  bar?.start(1, 0, { name: '' });
  const report = await convertCheckpoint(source, target, {
    dtype: given.dtype === undefined ? undefined : parsePrecision(given.dtype),
    maxShardBytes: given.maxShardSize === undefined ? undefined : parseSize(given.maxShardSize),
    layout: given.layout,
    overwrite: given.overwrite,
    checkFinite: given.checkFinite,
    signal: abort.signal,
    progress: ({ name, bytes, totalBytes }) => {
      bar?.setTotal(totalBytes);
      bar?.update(bytes, { name });
    },
  }).finally(() => bar?.stop());
  for (const warning of report.warnings) console.error(`warning: ${warning}`);
  if (report.dropped.length > 0) console.error(`left out ${report.dropped.length} buffer(s) that no release needs: ${report.dropped.join(', ')}`);
  console.log(
    `${target}: ${report.tensors} tensors, ${(report.bytes / 1e6).toFixed(1)} MB in ${report.files.length} file(s), and ${report.copied.join(', ')}`,
  );
}

const program = addConvertOptions(new Command('convert'))
  .description('Writes a checkpoint in another precision, size of files, or layout of keys. The target appears when it is complete.')
  .action(run);

program.parseAsync().catch((error: unknown) => {
  if (error instanceof VisPrunerError) console.error(`${error.code}: ${error.message}`);
  else console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
