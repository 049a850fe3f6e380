import type { Command } from 'commander';
import { openDirectory } from '../../weights/byte_directory_node';
import type { Checkpoint } from '../../weights/checkpoint';
import { readCheckpoint } from '../../weights/checkpoint_node';
import { findModel } from '../../weights/hub_cache_node';
import { mapNames } from '../../weights/layouts';
import { checkpointSource, type TensorFactory } from '../../weights/sources';
import type { ModelConfig } from '../config';
import { Llava } from '../llava';
import { type Budgets, budgetTable, countBudgets } from './budgets';
import type { CommandContext } from './context';
import { finiteTensors, verifiedFiles } from './inspect_checks';
import { patchesOf, readModelConfig } from './model_config';
import { bytes, count, print, printJson } from './output';
import { shippedModel } from './package_files';

/** Besides weights and config.json: what a checkpoint may have. */
const FILES = [
  'tokenizer.json',
  'preprocessor_config.json',
  'processor_config.json',
  'chat_template.jinja',
  'chat_template.json',
  'generation_config.json',
];

interface Inspection {
  readonly directory: string;
  readonly config: ModelConfig;
  readonly parameters: { readonly total: number; readonly byPart: Readonly<Record<string, number>> };
  readonly tensors: number;
  readonly files: number;
  readonly bytes: number;
  /** Bytes by data type. */
  readonly dtypes: Readonly<Record<string, number>>;
  readonly layout: string;
  readonly warnings: readonly string[];
  /** Files whose checksums were compared, and are right; only on request. */
  readonly verified?: readonly string[];
  /** Tensors that were read, and are finite; only on request. */
  readonly finite?: number;
  /** Files beside the weights that are there. */
  readonly beside: readonly string[];
  readonly budgets?: Budgets;
}

interface InspectFlags {
  readonly json?: boolean;
  readonly verify?: boolean;
  readonly checkFinite?: boolean;
}

/** `vispruner inspect`: a checkpoint by its config and its headers; no weight is read unless that is asked for. */
export function addInspect(program: Command, { signal }: CommandContext): void {
  program
    .command('inspect')
    .description('config, parameters, bytes, data types and layout of a checkpoint; FLOPs and key-value cache by budget')
    .argument('[dir]', 'directory of a checkpoint, or org/name[@revision] of one in the local cache (default: the model that comes with the package)')
    .option('--verify', 'compare every file with its SHA-256: the lines of SHA256SUMS, or what a Hugging Face cache says')
    .option('--check-finite', 'read all weights and look for NaN and infinity')
    .option('--json', 'print one JSON object')
    .action(async (given: string | undefined, { json, verify, checkFinite }: InspectFlags) => {
      const directory = await findModel(given ?? shippedModel());
      const verified = verify ? await verifiedFiles(directory, signal) : undefined;
      const config = await readModelConfig(directory, signal);
      const checkpoint = await readCheckpoint(directory, signal);
      try {
        const finite = checkFinite ? await finiteTensors(checkpoint, signal) : undefined;
        const found = { ...(await inspection(directory, config, checkpoint, signal)), verified, finite };
        if (json) printJson(found, signal);
        else print(report(found), signal);
        checkKeys(config, checkpoint);
      } finally {
        await checkpoint.close();
      }
    });
}

async function inspection(directory: string, config: ModelConfig, checkpoint: Checkpoint, signal: AbortSignal): Promise<Inspection> {
  const { layout, stored } = mapNames(checkpoint.names);
  const declared = new Map([...stored].map(([name, file]) => [file, name]));
  const byPart: Record<string, number> = {};
  const dtypes: Record<string, number> = {};
  for (const name of checkpoint.names) {
    const { shape, dtype, byteLength } = checkpoint.info(name);
    const part = declared.get(name)?.split('.')[0] ?? 'other';
    byPart[part] = (byPart[part] ?? 0) + shape.reduce((product, size) => product * size, 1);
    dtypes[dtype] = (dtypes[dtype] ?? 0) + byteLength;
  }
  const folder = await openDirectory(directory);
  const there = await Promise.all(FILES.map((file) => folder.has(file, signal)));
  return {
    directory,
    config,
    parameters: { total: Object.values(byPart).reduce((sum, size) => sum + size, 0), byPart },
    tensors: checkpoint.names.length,
    files: checkpoint.files.length,
    bytes: checkpoint.totalBytes,
    dtypes,
    layout: `${layout.name} (${layout.writtenBy})`,
    warnings: checkpoint.warnings,
    beside: FILES.filter((_, i) => there[i]),
    budgets: config.model_type === 'llava' ? countBudgets(config, patchesOf(config.vision_config), { crops: 1, textTokens: 0 }) : undefined,
  };
}

/** @throws CheckpointError when tensors are missing, left over or of another shape than the config says */
function checkKeys(config: ModelConfig, checkpoint: Checkpoint): void {
  const refuse = (): never => {
    throw new Error('inspect reads no weights');
  };
  const factory: TensorFactory = { matrix: refuse, embedding: refuse, tensor: refuse };
  const source = checkpointSource(checkpoint, factory);
  new Llava(config, source.root);
  source.check();
}

function report(found: Inspection): string {
  const { config, parameters } = found;
  const text = config.text_config;
  const parts = Object.entries(parameters.byPart).map(([part, size]) => `${part} ${count(size)}`);
  const lines: [string, string][] = [['checkpoint', found.directory]];
  if (config.model_type === 'llava') {
    const { vision_config: vision } = config;
    lines.push(
      ['encoder', `CLIP, ${vision.num_hidden_layers} blocks of ${vision.hidden_size}, ${vision.num_attention_heads} heads, ${vision.hidden_act}`],
      ['image', `${vision.image_size} x ${vision.image_size} pixels in patches of ${vision.patch_size}: ${patchesOf(vision)} visual tokens a crop`],
      [
        'features',
        `hidden state ${config.vision_feature_layer}, ${config.vision_feature_select_strategy === 'full' ? 'with' : 'without'} the class token`,
      ],
    );
  }
  lines.push(
    [
      'decoder',
      `Llama, ${text.num_hidden_layers} blocks of ${text.hidden_size}, ${text.num_attention_heads} query and ${text.num_key_value_heads} key-value heads`,
    ],
    [
      'text',
      `vocabulary of ${text.vocab_size}, context of ${text.max_position_embeddings} tokens, ${text.tie_word_embeddings ? 'tied' : 'untied'} head`,
    ],
    ['parameters', `${count(parameters.total)} (${parts.join(', ')})`],
    [
      'weights',
      `${found.tensors} tensors in ${found.files} file(s): ${Object.entries(found.dtypes)
        .map(([dtype, size]) => `${dtype} ${bytes(size)}`)
        .join(', ')}`,
    ],
    ['layout', found.layout],
    ['beside', found.beside.join(', ') || 'nothing: ids and prepared pixels only'],
    ...(found.verified ? [['verified', `SHA-256 of ${found.verified.length} file(s)`] as [string, string]] : []),
    ...(found.finite === undefined ? [] : [['finite', `all values of ${found.finite} tensors`] as [string, string]]),
    ...found.warnings.map((warning): [string, string] => ['warning', warning]),
  );
  const head = lines.map(([name, value]) => `${name.padEnd(11)} ${value}\n`).join('');
  return found.budgets ? `${head}\nVision tower and prefill of one crop without text, cache in float16:\n\n${budgetTable(found.budgets)}` : head;
}
