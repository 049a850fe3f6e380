import type { Command } from 'commander';
import { PromptError, PruneError } from '../../layers/errors';
import { findModel } from '../../weights/hub_cache_node';
import type { CountedConfig } from '../analysis/flops';
import { budgetTable, countBudgets } from './budgets';
import type { CommandContext } from './context';
import { patchesOf, readModelConfig } from './model_config';
import { number, whole } from './options';
import { print, printJson } from './output';

interface Preset extends Required<CountedConfig> {
  readonly crops: number;
}

const CLIP_LARGE_336: Preset['vision_config'] = {
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 24,
  image_size: 336,
  patch_size: 14,
};

function vicuna(hidden_size: number, intermediate_size: number, num_hidden_layers: number, num_attention_heads: number): Preset['text_config'] {
  const head_dim = hidden_size / num_attention_heads;
  return { hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads: num_attention_heads, head_dim };
}

/** Published shapes; LLaVA-NeXT looks at an image in five crops. */
const PRESETS: Readonly<Record<string, Preset>> = {
  'llava-1.5-7b': { text_config: vicuna(4096, 11008, 32, 32), vision_config: CLIP_LARGE_336, crops: 1 },
  'llava-1.5-13b': { text_config: vicuna(5120, 13824, 40, 40), vision_config: CLIP_LARGE_336, crops: 1 },
  'llava-next-7b': { text_config: vicuna(4096, 11008, 32, 32), vision_config: CLIP_LARGE_336, crops: 5 },
};

interface FlopsFlags {
  readonly tokens?: readonly number[];
  readonly crops?: number;
  readonly textTokens: number;
  readonly json?: boolean;
}

function numbers(text: string): number[] {
  return text.split(',').map(whole);
}

/** `vispruner flops`: the work and the memory of a budget by the paper's counting. */
export function addFlops(program: Command, { signal }: CommandContext): void {
  program
    .command('flops')
    .description("FLOPs and key-value cache of each budget, counted as VisPruner's paper does")
    .argument('[model]', `${Object.keys(PRESETS).join(', ')}, or a checkpoint as --model takes it (only config.json is read)`, 'llava-1.5-7b')
    .option('--tokens <list>', 'visual tokens kept of each crop, as in 128,64,32 (default: 100, 75, 50, 25, 10 and 5% of them)', numbers)
    .option('--crops <n>', 'crops that an image is cut into (default: 5 for llava-next-7b, otherwise 1)', whole)
    .option('--text-tokens <n>', 'text tokens to count beside them; 0 as in the paper', number, 0)
    .option('--json', 'print one JSON object')
    .action(async (model: string, flags: FlopsFlags) => {
      const config = PRESETS[model] ?? (await visionConfig(model, signal));
      const crops = flags.crops ?? config.crops;
      const patches = patchesOf(config.vision_config);
      const tooMany = flags.tokens?.find((tokens) => tokens > patches);
      if (tooMany !== undefined)
        throw new PruneError('TOKENS_EXCEED_PATCHES', `--tokens has ${tooMany}, but a crop of ${model} has ${patches} visual tokens.`);
      const budgets = countBudgets(config, patches, { crops, textTokens: flags.textTokens, tokens: flags.tokens });
      if (flags.json) return printJson({ model, crops, patchesPerCrop: patches, textTokens: flags.textTokens, ...budgets }, signal);
      const notes = `${model}: ${patches} patches a crop, ${crops} crop(s), ${flags.textTokens} text tokens; vision tower and prefill, a multiply and an add being two; cache in float16.`;
      print(`${notes}\n\n${budgetTable(budgets)}\nFastV drops tokens before decoder block 2; all other methods before the decoder.\n`, signal);
    });
}

async function visionConfig(directory: string, signal: AbortSignal): Promise<Preset> {
  const config = await readModelConfig(await findModel(directory), signal);
  if (config.model_type === 'llava') return { ...config, crops: 1 };
  throw new PromptError('NO_VISION', `${directory} is a language model without a vision tower: it has no visual tokens to count.`);
}
