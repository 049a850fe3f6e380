import { checkOptionNames, type OptionNames } from '../weights/option_names';
import { type FillProgress, seedSource } from '../weights/sources';
import { type BackendName, useBackend } from './backend/backends';
import { choosePrecision, type WeightDtype } from './backend/precision';
import { parseConfig } from './config';
import { Llava } from './llava';
import { TokenModel } from './token_model';

export interface BuildOptions {
  /** Parameters are drawn from it, each by its name: the same seed gives the same model. Default 0. */
  readonly seed?: number;
  readonly backend?: BackendName | 'auto';
  /** What matrices and embeddings are held in (see `LoadOptions.dtype`). The parameters are drawn in float32, so `auto` is float32. */
  readonly dtype?: WeightDtype | 'auto';
  /** Called after each tensor. */
  readonly progress?: (progress: FillProgress) => void;
  readonly signal?: AbortSignal;
}

const BUILD_OPTIONS: OptionNames<BuildOptions> = { seed: true, backend: true, dtype: true, progress: true, signal: true };

/**
 * A model from a configuration alone, with seeded random parameters, for research, tests and benchmarks at true shapes.
 * It speaks token ids: it has no tokenizer.
 *
 * @param config what a config.json of LLaVA (`model_type: 'llava'`) or Llama (`model_type: 'llama'`) holds; transformers' defaults where it is silent
 * @throws ConfigError, BackendError
 *
 * ```ts
 * const model = await buildModel({ model_type: 'llama', vocab_size: 64, hidden_size: 32, num_attention_heads: 2, num_hidden_layers: 2 }, { seed: 7 });
 * const { ids } = await model.generate({ inputIds: [1, 2, 3] }, { maxNewTokens: 5 });
 * ```
 */
export async function buildModel(config: unknown, options: BuildOptions = {}): Promise<TokenModel> {
  checkOptionNames(options, BUILD_OPTIONS, 'buildModel');
  const parsed = parseConfig(config, 'config');
  const backend = await useBackend(options.backend);
  const { dtype, factory } = await choosePrecision(options.dtype, backend, 'float32');
  const source = seedSource(options.seed ?? 0, factory);
  const llava = new Llava(parsed, source.root);
  await source.fill({ progress: options.progress, signal: options.signal });
  return new TokenModel(parsed, {}, backend, source, llava, dtype);
}
