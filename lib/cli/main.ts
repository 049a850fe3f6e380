#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { ERROR_CODES } from '../../layers/error_codes';
import { VisPrunerError } from '../../layers/errors';
import { addAsk } from './ask';
import type { CommandContext } from './context';
import { addConvert } from './convert';
import { addDoctor } from './doctor';
import { addFlops } from './flops';
import { addInspect } from './inspect';
import { version } from './package_files';
import { addSelect } from './select';

const EXIT = { ok: 0, failure: 1, wrongUse: 2, interrupt: 130, terminate: 143 } as const;

/** A signal may come twice for one Ctrl-C, from the terminal and from npm; one that comes later than this is a second wish, and ends at once. */
const REPEAT_MS = 1000;

/** Results alone go to stdout: whatever a package prints there by itself goes to stderr instead. */
function keepStdoutClean(): void {
  for (const name of ['log', 'info', 'debug'] as const) console[name] = (...values: unknown[]) => console.error(...values);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok); // the reader (`head`) has enough
    throw error;
  });
}

function abortOnSignals(): { readonly signal: AbortSignal; readonly exitCode: () => number } {
  const controller = new AbortController();
  let first = 0;
  let code: number = EXIT.interrupt;
  const on = (exitCode: number) => () => {
    if (controller.signal.aborted) {
      if (performance.now() - first > REPEAT_MS) process.exit(exitCode);
      return;
    }
    first = performance.now();
    code = exitCode;
    controller.abort();
  };
  process.on('SIGINT', on(EXIT.interrupt));
  process.on('SIGTERM', on(EXIT.terminate));
  return { signal: controller.signal, exitCode: () => code };
}

function makeProgram(context: CommandContext): Command {
  const program = new Command('vispruner')
    .description('Ask LLaVA-style models about images, and see which visual tokens a pruning method keeps.')
    .version(version())
    .showHelpAfterError('(--help shows what there is)')
    .exitOverride();
  for (const add of [addAsk, addSelect, addInspect, addFlops, addDoctor, addConvert]) add(program, context);
  return program;
}

/** What went wrong, on one line for stderr, and the exit code: 2 where what was typed is wrong, 1 where what it names is. */
function failure(error: unknown): { message: string; code: number } {
  const debug = process.env.VISPRUNER_DEBUG ? `\n${error instanceof Error ? error.stack : ''}` : '';
  if (error instanceof VisPrunerError) {
    const use = ERROR_CODES[error.name]?.[error.code]?.use ?? false;
    return { message: `error [${error.code}]: ${error.message}${debug}`, code: use ? EXIT.wrongUse : EXIT.failure };
  }
  const [line = ''] = String(error).split('\n');
  const hint = 'This was not foreseen: please report it with the command that led here. VISPRUNER_DEBUG=1 shows where it happened.';
  return { message: `error: ${line}. ${hint}${debug}`, code: EXIT.failure };
}

async function main(): Promise<number> {
  keepStdoutClean();
  const { signal, exitCode } = abortOnSignals();
  try {
    await makeProgram({ signal }).parseAsync();
    return signal.aborted ? exitCode() : EXIT.ok;
  } catch (error) {
    if (signal.aborted) return exitCode();
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.wrongUse; // commander has printed it
    const { message, code } = failure(error);
    console.error(message);
    return code;
  }
}

void main().then((code) => {
  process.stdout.write('', () => process.exit(code)); // the callback comes when all before it was written
});
