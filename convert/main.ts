import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { VisPrunerError } from '../layers/errors';
import { LAYOUTS } from '../weights/layouts';
import { convertCheckpoint } from './convert';
import { parsePrecision, parseSize } from './options';

interface Arguments {
  readonly dtype?: string;
  readonly maxShardSize?: string;
  readonly layout?: string;
  readonly overwrite?: boolean;
  readonly checkFinite?: boolean;
}

async function run(source: string, target: string, given: Arguments): Promise<void> {
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

const program = new Command('convert')
  .description('Writes a checkpoint in another precision, size of files, or layout of keys. The target appears when it is complete.')
  .argument('<source>', 'directory with model.safetensors, or its shards and index')
  .argument('<target>', 'directory to make')
  .option('--dtype <name>', 'float32, float16 or bfloat16 (default: as it is)')
  .option('--max-shard-size <size>', 'largest file, like 500MB or 2GiB (default: 5GB)')
  .option('--layout <name>', `layout of keys: ${LAYOUTS.map(({ name }) => name).join(', ')} (default: as it is)`)
  .option('--overwrite', 'replace a target that exists')
  .option('--check-finite', 'refuse weights that are NaN or infinite')
  .action(run);

program.parseAsync().catch((error: unknown) => {
  if (error instanceof VisPrunerError) console.error(`${error.code}: ${error.message}`);
  else console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
