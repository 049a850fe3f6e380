import type { Command } from 'commander';
import { ConfigError } from '../layers/errors';
import type { FloatDtype } from '../weights/dtype';
import { LAYOUTS } from '../weights/layouts';

/** What a command line says of a conversion. */
export interface ConvertFlags {
  readonly dtype?: string;
  readonly maxShardSize?: string;
  readonly layout?: string;
  readonly overwrite?: boolean;
  readonly checkFinite?: boolean;
}

/** Arguments and options of a conversion, alike wherever it is a command. */
export function addConvertOptions(command: Command): Command {
  return command
    .argument(
      '<source>',
      'directory with model.safetensors, or its shards and index; or org/name[@revision] of a model in the local Hugging Face cache',
    )
    .argument('<target>', 'directory to make')
    .option('--dtype <name>', 'float32, float16 or bfloat16 (default: as it is)')
    .option('--max-shard-size <size>', 'largest file, like 500MB or 2GiB (default: 5GB)')
    .option('--layout <name>', `layout of keys: ${LAYOUTS.map(({ name }) => name).join(', ')} (default: as it is)`)
    .option('--overwrite', 'replace a target that exists')
    .option('--check-finite', 'refuse weights that are NaN or infinite');
}

export type Precision = 'float32' | 'float16' | 'bfloat16';

/** Precisions by the names that torch and config.json use, and what safetensors calls them. */
export const PRECISIONS: Readonly<Record<Precision, FloatDtype>> = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' };

/** @throws ConfigError `BAD_OPTION` */
export function parsePrecision(text: string): Precision {
  if (Object.hasOwn(PRECISIONS, text)) return text as Precision;
  throw new ConfigError('BAD_OPTION', `Unknown precision "${text}". Known: ${Object.keys(PRECISIONS).join(', ')}.`);
}

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['kib', 2 ** 10],
  ['mib', 2 ** 20],
  ['gib', 2 ** 30],
]);

/**
 * Bytes of `500MB`, `1.5GiB` or `1000`: powers of 1000 and of 1024, as transformers' `max_shard_size`.
 * @throws ConfigError `BAD_OPTION`
 */
export function parseSize(text: string): number {
  const [, number, unit] = /^([0-9]+(?:\.[0-9]+)?) *([a-z]*)$/i.exec(text.trim()) ?? [];
  const factor = UNITS.get((unit ?? '').toLowerCase());
  const size = number === undefined || factor === undefined ? 0 : Math.floor(Number(number) * factor);
  if (size >= 1) return size;
  throw new ConfigError('BAD_OPTION', `"${text}" is no size. Write it like 500MB, 1.5GiB or a number of bytes.`);
}
