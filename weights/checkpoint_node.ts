import { openDirectory } from './byte_directory_node';
import { type Checkpoint, openCheckpoint } from './checkpoint';

/** Opens the weights of a directory on disk. @throws what `openDirectory` and `openCheckpoint` throw */
export async function readCheckpoint(path: string, signal?: AbortSignal): Promise<Checkpoint> {
  return openCheckpoint(await openDirectory(path), signal);
}
