import { readJson } from '../../weights/byte_directory';
import { openDirectory } from '../../weights/byte_directory_node';
import { checkFinished } from '../../weights/checkpoint';
import { type ModelConfig, parseConfig } from '../config';

/** config.json of a checkpoint, without its weights. @throws CheckpointError, ConfigError */
export async function readModelConfig(directory: string, signal: AbortSignal): Promise<ModelConfig> {
  const folder = await openDirectory(directory);
  await checkFinished(folder, signal);
  return parseConfig(await readJson(folder, 'config.json', signal), `${directory}/config.json`);
}

/** Patches of a crop. */
export function patchesOf({ image_size, patch_size }: { readonly image_size: number; readonly patch_size: number }): number {
  return Math.floor(image_size / patch_size) ** 2;
}
