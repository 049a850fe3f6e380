import { openDirectory } from '../../weights/byte_directory_node';
import type { Checkpoint } from '../../weights/checkpoint';
import { verifyChecksums } from '../../weights/checksums';
import { isReadable } from '../../weights/dtype';
import { findNotFinite, notFinite } from '../../weights/finite';
import { progressBar } from './progress';

/** Files whose SHA-256 is as it should be. @throws what `verifyChecksums` throws */
export async function verifiedFiles(directory: string, signal: AbortSignal): Promise<readonly string[]> {
  const bar = progressBar('Verifying');
  const progress = ({ bytes, totalBytes }: { bytes: number; totalBytes: number }) => bar.update(bytes, totalBytes);
  return verifyChecksums(await openDirectory(directory), { progress, signal }).finally(() => bar.stop());
}

/**
 * Reads all weights.
 * @returns the number of tensors, all values of which are finite
 * @throws CheckpointError `NOT_FINITE` with every tensor that holds NaN or infinity
 */
export async function finiteTensors(checkpoint: Checkpoint, signal: AbortSignal): Promise<number> {
  const bar = progressBar('Scanning');
  const damaged: string[] = [];
  let bytes = 0;
  try {
    for (const name of checkpoint.names) {
      const { dtype, byteLength } = checkpoint.info(name);
      if (isReadable(dtype)) {
        const found = findNotFinite({ name, dtype }, await checkpoint.bytes(name, signal));
        if (found !== undefined) damaged.push(found);
      }
      bytes += byteLength;
      bar.update(bytes, checkpoint.totalBytes);
    }
  } finally {
    bar.stop();
  }
  if (damaged.length > 0) throw notFinite(checkpoint.name, damaged);
  return checkpoint.names.length;
}
