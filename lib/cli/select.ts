import type { Command } from 'commander';
import { PromptError } from '../../layers/errors';
import { createPruner } from '../prune/registry';
import type { CommandContext } from './context';
import { withModel } from './model';
import { addModelOptions, addPruneOptions, type ModelOptions, type PruneFlags, pruneOptions } from './options';
import { printJson } from './output';
import { checkOverlay, writeOverlays } from './overlay';

interface SelectFlags extends ModelOptions, PruneFlags {
  readonly out?: string;
}

/** `vispruner select`: which patches a method keeps of an image, without a question. */
export function addSelect(program: Command, { signal }: CommandContext): void {
  const command = program
    .command('select')
    .description('the patches that a method keeps of an image, as JSON, and drawn over it')
    .argument('<image>', 'path or address of a JPEG, PNG or WebP file');
  addPruneOptions(addModelOptions(command), 'vispruner')
    .option('--out <file.png>', 'draw the kept patches over the image')
    .option('--json', 'taken as by the other commands; what select prints is JSON with and without it')
    .action(async (image: string, flags: SelectFlags) => {
      const pruner = createPruner(await pruneOptions(flags, 'vispruner'));
      checkOverlay(flags.out, pruner);
      await withModel(flags, signal, async (model) => {
        if (model.config.model_type !== 'llava') throw new PromptError('NO_VISION', `${flags.model} is a language model: it looks at no image.`);
        const { text_config: text, image_token_index: imageToken } = model.config;
        const images = await model.prepareImages([image], { signal });
        try {
          const inputIds = [text.bos_token_id ?? 0, imageToken];
          const { logits, visual } = await model.forward({ inputIds, images }, { prune: pruner, signal });
          logits.dispose();
          const overlays = flags.out === undefined ? [] : await writeOverlays(flags.out, [image], visual, model, signal);
          const size = images[0]?.originalSize;
          printJson({ image, size, model: flags.model, backend: model.backend, pruning: pruner.name, visual, overlays }, signal);
        } finally {
          for (const { pixelValues } of images) pixelValues.dispose();
        }
      });
    });
}
