import { type ByteDirectory, readJson, readJsonIfPresent, urlDirectory } from '../weights/byte_directory';
import { openDirectory } from '../weights/byte_directory_node';
import { type Checkpoint, checkFinished, openCheckpoint } from '../weights/checkpoint';
import { verifyChecksums } from '../weights/checksums';
import { findModel } from '../weights/hub_cache_node';
import { checkOptionNames, type OptionNames } from '../weights/option_names';
import { checkpointSource, type FillProgress } from '../weights/sources';
import { type BackendName, useBackend } from './backend/backends';
import { choosePrecision, type WeightDtype } from './backend/precision';
import { loadChatProcessor } from './chat';
import { parseConfig, parseGenerationConfig } from './config';
import { defaultPreprocessorConfig, type PreprocessorConfig, parsePreprocessorConfig } from './image/preprocessor_config';
import { Llava } from './llava';
import { VisionLanguageModel } from './model';

export interface LoadOptions {
  /** Default `auto`: the fastest that works. One backend a process. */
  readonly backend?: BackendName | 'auto';
  /**
   * What matrices and embeddings are held in. `bfloat16` and `float16` take half of the memory, on the backends `tensorflow` and `cuda` only.
   * Default `auto`: half precision where it is faster and the checkpoint is stored in it (float16 on `cuda`, bfloat16 on `tensorflow` when the
   * processor multiplies in it), else float32.
   */
  readonly dtype?: WeightDtype | 'auto';
  /** Compare the files with `SHA256SUMS` first (or with the checksums of a Hugging Face cache); it reads them once more. */
  readonly verify?: boolean;
  /** Refuse weights that are NaN or infinite. */
  readonly checkFinite?: boolean;
  /** Called after each tensor. */
  readonly progress?: (progress: FillProgress) => void;
  readonly signal?: AbortSignal;
}

const LOAD_OPTIONS: OptionNames<LoadOptions> = { backend: true, dtype: true, verify: true, checkFinite: true, progress: true, signal: true };

/**
 * Loads a transformers LLaVA (or Llama) directory as it is: config.json, safetensors in one file or in shards and in any of the three key layouts,
 * tokenizer.json, chat template, preprocessor_config.json, generation_config.json.
 *
 * @param where in Node a path, or the name of a model that is in the local Hugging Face cache, as `org/name` or `org/name@revision` (`pullModel` and
 * `vispruner pull` fetch it; a directory of that name wins); in a browser a base URL; or the files themselves (`memoryDirectory`, `urlDirectory`)
 * @throws ConfigError, CheckpointError, BackendError: a failure or an abort frees everything that was loaded so far
 *
 * ```ts
 * const model = await loadModel('llava-1.5-7b-hf', { progress: ({ bytes, totalBytes }) => console.error(bytes / totalBytes) });
 * ```
 */
export async function loadModel(where: string | ByteDirectory, options: LoadOptions = {}): Promise<VisionLanguageModel> {
  checkOptionNames(options, LOAD_OPTIONS, 'loadModel');
  const { signal } = options;
  const directory = typeof where === 'string' ? await openWhere(where) : where;
  await checkFinished(directory, signal);
  if (options.verify) await verifyChecksums(directory, { signal });
  const file = (name: string) => `${directory.name}/${name}`;
  const config = parseConfig(await readJson(directory, 'config.json', signal), file('config.json'));
  const generation = await readJsonIfPresent(directory, 'generation_config.json', signal);
  const generationConfig = generation === undefined ? {} : parseGenerationConfig(generation, file('generation_config.json'));
  const chat = await loadChatProcessor(directory, config, signal);
  const images = await imageProcessor(directory, config.model_type === 'llava' ? config.vision_config.image_size : 224, signal);
  const checkpoint = await openCheckpoint(directory, signal);
  try {
    const backend = await useBackend(options.backend);
    const { dtype, factory, warnings } = await choosePrecision(options.dtype, backend, storedDtype(checkpoint));
    const source = checkpointSource(checkpoint, factory);
    const llava = new Llava(config, source.root);
    await source.fill(options);
    const processors = { chat, images, warnings: [...checkpoint.warnings, ...warnings] };
    return new VisionLanguageModel(config, generationConfig, backend, source, llava, processors, dtype);
  } finally {
    await checkpoint.close();
  }
}

/** What more than half of a checkpoint's bytes are stored in, if that is 16 bits wide; else float32. */
function storedDtype(checkpoint: Checkpoint): 'float32' | 'bfloat16' | 'float16' {
  const infos = checkpoint.names.map((name) => checkpoint.info(name));
  const share = (type: string) =>
    infos.filter(({ dtype }) => dtype === type).reduce((sum, { byteLength }) => sum + byteLength, 0) / checkpoint.totalBytes;
  const [brain, half] = [share('BF16'), share('F16')];
  if (brain + half <= 0.5) return 'float32';
  return brain >= half ? 'bfloat16' : 'float16';
}

/** A folder, the name of a model in the local cache, or in a browser a base URL. */
export async function openWhere(where: string): Promise<ByteDirectory> {
  const inNode = typeof window === 'undefined' && typeof process !== 'undefined' && process.versions?.node;
  return inNode ? openDirectory(await findModel(where)) : urlDirectory(where);
}

async function imageProcessor(directory: ByteDirectory, imageSize: number, signal?: AbortSignal): Promise<PreprocessorConfig> {
  // transformers 5 nests the image processor in processor_config.json, and prefers it there.
  for (const name of ['processor_config.json', 'preprocessor_config.json']) {
    const json = await readJsonIfPresent(directory, name, signal);
    if (json !== undefined && (name === 'preprocessor_config.json' || (json as { image_processor?: unknown } | null)?.image_processor)) {
      return parsePreprocessorConfig(json, `${directory.name}/${name}`);
    }
  }
  return defaultPreprocessorConfig(imageSize);
}
