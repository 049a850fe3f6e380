import { SingleBar } from 'cli-progress';
import { Command, CommanderError } from 'commander';
import { ERROR_CODES } from '../layers/error_codes';
import { VisPrunerError } from '../layers/errors';
import { convertCheckpoint } from './convert';
import { addConvertOptions, type ConvertFlags, parsePrecision, parseSize } from './options';

const abort = new AbortController();
process.once('SIGINT', () => abort.abort(new Error('Interrupted; nothing was written.')));

async function run(source: string, target: string, given: ConvertFlags): Promise<void> {
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
  .exitOverride()
  .action(run);

/** 2 where what was typed is wrong, 130 for Ctrl-C, 1 for all else, as the command line has it. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has printed it
  if (abort.signal.aborted) return 130;
  if (!(error instanceof VisPrunerError)) return 1;
  return ERROR_CODES[error.name]?.[error.code]?.use ? 2 : 1;
}

program.parseAsync().catch((error: unknown) => {
  if (error instanceof VisPrunerError) console.error(`error [${error.code}]: ${error.message}`);
  else if (!(error instanceof CommanderError)) console.error(error instanceof Error ? error.message : error);
  process.exitCode = exitCodeOf(error);
});
