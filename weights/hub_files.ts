import { INDEX_FILE, SINGLE_FILE } from './checkpoint';

/** Besides weights: all that a model is loaded from, of whatever release, and what `transformers` wants beside it. */
const CONFIGURATION =
  /^(config\.json|generation_config\.json|tokenizer[^/]*|[^/]*\.jinja|chat_template\.json|special_tokens_map\.json|added_tokens\.json|(pre)?processor_config\.json)$/;

/** Whether a file of this name is wanted beside a model's weights. */
export function isConfiguration(path: string): boolean {
  return CONFIGURATION.test(path);
}

/** Whether loading a model may read a file of this name, unless it is a shard, whose names are the index's own. */
export function isModelFile(path: string): boolean {
  return isConfiguration(path) || path === SINGLE_FILE || path === INDEX_FILE;
}
