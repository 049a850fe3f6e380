import * as path from 'node:path';
import type { Command } from 'commander';
import { readJson } from '../../weights/byte_directory';
import { openDirectory } from '../../weights/byte_directory_node';
import { checkedSchema, type JsonSchema } from '../grammar/json_schema';
import { createPruner } from '../prune/registry';
import { methodNamed } from '../prune/written';
import { Sampler } from '../sampler';
import { chatFromLines } from './chat';
import type { CommandContext } from './context';
import { UseError } from './errors';
import { withModel } from './model';
import { addModelOptions, addPruneOptions, type ModelOptions, number, type PruneFlags, pruneOptions, whole } from './options';
import { print, printJson } from './output';
import { checkOverlay, writeOverlays } from './overlay';
import { splitFirstTurn, splitWords } from './words';

interface AskFlags extends ModelOptions, PruneFlags {
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly maxNewTokens?: number;
  readonly stop?: readonly string[];
  readonly choice?: readonly string[];
  readonly schema?: string;
  readonly overlay?: string;
  readonly chat?: boolean;
  readonly json?: boolean;
}

function append(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** `vispruner ask`: an answer, as it is written. */
export function addAsk(program: Command, { signal }: CommandContext): void {
  const command = program
    .command('ask')
    .usage('[options] [image...] <question>')
    .description('ask about an image, about several, or without any; the answer is printed as it is written')
    .argument('[words...]', 'paths or addresses of JPEG, PNG or WebP files, then the question');
  addPruneOptions(addModelOptions(command), 'none, or vispruner when a budget is given')
    .option('--temperature <t>', '0 takes the most likely token; above 0 tokens are drawn (default: 0)', number)
    .option('--top-p <p>', 'draw among the fewest tokens whose probabilities sum to p (default: 1)', number)
    .option('--top-k <k>', 'draw among the k most likely tokens; 0 means all (default: 0)', number)
    .option('--max-new-tokens <n>', 'tokens to write at most', whole)
    .option('--stop <text>', 'end the answer where this text would come; may be given several times', append)
    .option('--choice <text>', 'answer with the likeliest of these texts; given once for each, --json shows all', append)
    .option('--schema <file.json>', 'a JSON Schema that the answer keeps to (docs/schema.md says what it may have)')
    .option('--overlay <file.png>', 'draw the kept patches over the image; of several, each gets a file with its number')
    .option('--chat', 'go on with questions from stdin, a line each, in one conversation; /image FILE adds an image to the next')
    .option('--json', 'print one JSON object when the answer is complete; in a chat, one a line')
    .action(async (words: string[], flags: AskFlags) => {
      const { temperature, topP, topK, maxNewTokens, stop, choice, overlay, json } = flags;
      const pruner = createPruner(await pruneOptions(flags));
      const seed = choice && methodNamed(pruner.name).options.includes('seed') ? undefined : flags.seed; // of what is drawn: patches here, not words
      new Sampler({ temperature, topP, topK, seed });
      const schema = flags.schema === undefined ? undefined : await readSchema(flags.schema, signal);
      const options = { prune: pruner, temperature, topP, topK, seed, maxNewTokens, stop, choices: choice, schema };
      if (flags.chat) {
        if (overlay !== undefined) throw new UseError('CHAT_OVERLAY', '--overlay draws one answer; it can not be given with --chat.');
        const start = { ...splitFirstTurn(words), options, json: json ?? false };
        await withModel(flags, signal, (model) => chatFromLines(model, start, signal));
        return;
      }
      const { images, question } = splitWords(words);
      if (overlay !== undefined) checkOverlay(overlay, pruner);
      if (overlay !== undefined && images.length === 0) throw new UseError('NO_IMAGE', '--overlay draws over an image, but none is given.');
      await withModel(flags, signal, async (model) => {
        const stream = model.stream(images, question, { ...options, signal });
        let step = await stream.next();
        for (; !step.done; step = await stream.next()) {
          if (!json) print(step.value, signal);
        }
        if (!json) print('\n', signal);
        const answer = step.value;
        const overlays = overlay === undefined ? [] : await writeOverlays(overlay, images, answer.visual, model, signal);
        if (json) {
          const { text, ...rest } = answer;
          printJson({ question, text, images, model: flags.model, backend: model.backend, pruning: pruner.name, ...rest, overlays }, signal);
        }
      });
    });
}

/** @throws CheckpointError `FILE_NOT_FOUND`, `NOT_JSON`; PromptError `BAD_SCHEMA`, `SCHEMA_UNSUPPORTED` */
async function readSchema(file: string, signal: AbortSignal): Promise<JsonSchema> {
  const schema = (await readJson(await openDirectory(path.dirname(path.resolve(file))), path.basename(file), signal)) as JsonSchema;
  checkedSchema(schema);
  return schema;
}
