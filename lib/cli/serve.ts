import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { parseSize } from '../../convert/options';
import { createPruner } from '../prune/registry';
import { isLoopback } from '../server/addresses';
import { createServer } from '../server/server';
import type { CommandContext } from './context';
import { withModel } from './model';
import { addModelOptions, addPruneOptions, type ModelOptions, number, type PruneFlags, pruneOptions, whole } from './options';
import { print } from './output';

interface ServeFlags extends ModelOptions, PruneFlags {
  readonly host: string;
  readonly port: number;
  readonly name?: string;
  readonly queue: number;
  readonly cache: number | false;
  readonly maxBody: number;
  readonly maxImages: number;
  readonly maxPixels: number;
  readonly allowUrl?: boolean;
  readonly apiKey?: string;
  readonly cors?: readonly string[];
  readonly grace: number;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

function port(text: string): number {
  const value = number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65535) throw new InvalidArgumentError('Give a whole number from 0 to 65535.');
  return value;
}

function count(text: string): number {
  const value = number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('Give a whole number of at least 0.');
  return value;
}

function append(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** `vispruner serve`: an OpenAI-compatible server, until a signal ends it. */
export function addServe(program: Command, context: CommandContext): void {
  const { signal } = context;
  const command = program
    .command('serve')
    .description("serve the model by OpenAI's interface: chat completions, whole or streamed, with images; ends in order at Ctrl-C or SIGTERM");
  addPruneOptions(addModelOptions(command), 'none, or vispruner when a budget is given')
    .option('--host <address>', 'where to listen; others than this machine reach it only if this says so', '127.0.0.1')
    .option('--port <n>', 'port; 0 takes any free one', port, 8000)
    .option('--name <name>', "the model's name in requests (default: its directory's name)")
    .option('--queue <n>', 'requests that may wait for their turn', count, 32)
    .option('--cache <n>', 'conversations whose keys, values and images are kept for their next turn', whole, 4)
    .option('--no-cache', 'compute every request anew')
    .option('--max-body <size>', 'bytes that a request may have, like 20MB', parseSize, 20e6)
    .option('--max-images <n>', 'images that a request may have', count, 8)
    .option('--max-pixels <n>', 'pixels that an image may have', whole, 50e6)
    .option('--allow-url', 'fetch images that requests name by address, of public hosts only')
    .option('--api-key <key>', 'what clients must send; the environment variable VISPRUNER_API_KEY keeps it off the command line')
    .option('--cors <origin>', 'web pages of this origin may ask, "*" means any; may be given several times', append)
    .option('--grace <s>', 'seconds that the running answer has left when the server is ended', number, 30)
    .option('--quiet', 'no line for each request')
    .option('--json', 'print the address on stdout, as one line of JSON, and not on stderr')
    .action(async (flags: ServeFlags) => {
      const prune = await pruneOptions(flags);
      createPruner(prune); // a wrong option is found before the model is loaded
      const name = flags.name ?? (existsSync(flags.model) ? path.basename(path.resolve(flags.model)) : flags.model);
      const apiKey = flags.apiKey ?? (process.env.VISPRUNER_API_KEY || undefined);
      if (apiKey === undefined && !isLoopback(flags.host)) {
        console.error(`warning: whoever reaches ${flags.host} can use this server: it has no key. Give --api-key, or listen on 127.0.0.1.`);
      }
      await withModel(flags, signal, async (model) => {
        const { host, queue, cache, maxBody, maxImages, maxPixels, allowUrl, cors, quiet } = flags;
        const limits = { queue, conversations: cache || 0, maxBodyBytes: maxBody, maxImages, maxPixels };
        const log = quiet ? undefined : (line: string) => console.error(line);
        const server = createServer(model, { name, prune, seed: flags.seed, host, ...limits, allowUrl, apiKey, cors, log });
        const { url } = await server.listen(flags.port);
        if (flags.json) print(`${JSON.stringify({ url, model: name, backend: model.backend, pid: process.pid })}\n`, signal);
        else console.error(`${name} is served at ${url}/v1 (${model.backend}); Ctrl-C ends it.`);
        await aborted(signal);
        if (!quiet) console.error('ending: no more requests are taken');
        const finished = await server.close(flags.grace * 1000);
        context.exitCode = finished ? 0 : 1;
      });
    });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
