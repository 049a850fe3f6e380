import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativeFactory } from '../../../lib/backend/native/factory_node';
import { readCheckpoint } from '../../../weights/checkpoint_node';
import { checkpointSource } from '../../../weights/sources';
import { describeNative, useNative, withoutNativeLeaks } from '../../support/native';

const [ROWS, COLUMNS] = [4096, 8192];
const MIB = 2 ** 20;

/** A checkpoint of zeros that takes no room on the disk: the file has a hole where its tensors are. */
function writeHollow(directory: string, dtype: 'BF16' | 'F32', count: number): void {
  const size = ROWS * COLUMNS * (dtype === 'F32' ? 4 : 2);
  const tensors = Array.from({ length: count }, (_, i) => [
    `language_model.model.layers.${i}.weight`,
    { dtype, shape: [ROWS, COLUMNS], data_offsets: [i * size, (i + 1) * size] },
  ]);
  const header = JSON.stringify(Object.fromEntries(tensors));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = openSync(join(directory, 'model.safetensors'), 'w');
  writeSync(file, length);
  writeSync(file, header);
  ftruncateSync(file, 8 + header.length + count * size);
  closeSync(file);
}

/** MiB that this process took at most while it loaded `count` matrices of 64 MiB in bfloat16. */
async function peakOfLoading(directory: string, count: number): Promise<number> {
  const checkpoint = await readCheckpoint(directory);
  const source = checkpointSource(checkpoint, nativeFactory('bfloat16'));
  for (let i = 0; i < count; i++) source.root.at(`language_model.model.layers.${i}`).matrix('weight', COLUMNS, ROWS);
  const before = process.memoryUsage.rss();
  let peak = before;
  const look = () => {
    peak = Math.max(peak, process.memoryUsage.rss());
  };
  const timer = setInterval(look, 5);
  try {
    await source.fill({ progress: look });
  } finally {
    clearInterval(timer);
    source.dispose();
    await checkpoint.close();
  }
  return (peak - before) / MIB;
}

describeNative('memory of weights in bfloat16', () => {
  beforeAll(useNative);

  // A float32 copy of one tensor would take 128 MiB more, of all 2 GiB.
  // What the first leaves to the process serves the second too, so that it grows less.
  it.each([
    ['F32', 4, 256 + 2 * 128 + 64],
    ['BF16', 16, 1024 + 64 + 64],
  ] as const)('%s, %i matrices of 64 MiB: what is held, what is read or copied at the time, and 64 MiB for all else', async (dtype, count, most) => {
    const directory = mkdtempSync(join(tmpdir(), 'vispruner-half-'));
    try {
      writeHollow(directory, dtype, count);
      const peak = await withoutNativeLeaks(() => peakOfLoading(directory, count));
      expect(peak).toBeLessThan(most);
      expect(peak).toBeGreaterThan(200); // else nothing was loaded
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
