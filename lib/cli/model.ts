import type { FillProgress } from '../../weights/sources';
import { loadModel } from '../load';
import type { VisionLanguageModel } from '../model';
import type { ModelOptions } from './options';
import { bytes } from './output';
import { progressBar } from './progress';

/** Loads the model that options name, with a bar, and disposes it when `run` ends. */
export async function withModel<T>(options: ModelOptions, signal: AbortSignal, run: (model: VisionLanguageModel) => Promise<T>): Promise<T> {
  const bar = progressBar('Loading', bytes);
  const progress = (step: FillProgress) => bar.update(step.bytes, step.totalBytes, step.seconds);
  const model = await loadModel(options.model, { backend: options.backend, dtype: options.dtype, progress, signal }).finally(() => bar.stop());
  for (const warning of model.warnings) console.error(`warning: ${warning}`);
  try {
    return await run(model);
  } finally {
    model.dispose();
  }
}
