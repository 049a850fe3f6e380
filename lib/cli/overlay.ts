import type { KeptPatches } from '../encoded';
import { drawKept } from '../image/overlay';
import type { PreparedImage } from '../image/types';
import type { VisionLanguageModel } from '../model';
import type { Pruner } from '../prune/types';
import { UseError } from './errors';
import { writeWhole } from './output';

/** @throws UseError `OVERLAY_NAME` for a file that is no PNG; `OVERLAY_METHOD` where the patches that enter the decoder are not the ones kept */
export function checkOverlay(file: string | undefined, pruner: Pruner): void {
  if (file !== undefined && !file.toLowerCase().endsWith('.png')) {
    throw new UseError('OVERLAY_NAME', `The picture is written as PNG, but its name is "${file}". Give one that ends in .png.`);
  }
  if (pruner.textDependent) {
    throw new UseError(
      'OVERLAY_METHOD',
      `Method "${pruner.name}" drops tokens inside the decoder, where a question directs it: there are no kept patches of the image to show.`,
    );
  }
}

/** Draws what was kept of each image; of several images or crops, each gets a file with its number. Returns the files written. */
export async function writeOverlays(
  file: string,
  images: readonly string[],
  visual: readonly KeptPatches[],
  model: VisionLanguageModel,
  signal: AbortSignal,
): Promise<string[]> {
  const files: string[] = [];
  for (const [i, kept] of visual.entries()) {
    const name = visual.length === 1 ? file : file.replace(/\.png$/i, `-${i + 1}.png`);
    await writeWhole(name, await drawOne(images[kept.image] as string, kept, model, signal), signal);
    files.push(name);
  }
  return files;
}

async function drawOne(image: string, kept: KeptPatches, model: VisionLanguageModel, signal: AbortSignal): Promise<Uint8Array> {
  const prepared = await model.prepareImages([image], { signal });
  try {
    return await drawKept(image, prepared[0] as PreparedImage, kept);
  } finally {
    for (const { pixelValues } of prepared) pixelValues.dispose();
  }
}
