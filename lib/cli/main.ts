#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { addAnalyse } from './analyse';
import { addAsk } from './ask';
import type { CommandContext } from './context';
import { addConvert } from './convert';
import { addDoctor } from './doctor';
import { addEval } from './eval';
import { EXIT, failOnUncaught, failure } from './failure';
import { addFlops } from './flops';
import { addInspect } from './inspect';
import { version } from './package_files';
import { addPull } from './pull';
import { addSelect } from './select';
import { addServe } from './serve';
import { addTune } from './tune';

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
  for (const add of [addAsk, addSelect, addInspect, addFlops, addDoctor, addConvert, addPull, addServe, addEval, addAnalyse, addTune])
    add(program, context);
  return program;
}

async function main(): Promise<number> {
  keepStdoutClean();
  failOnUncaught();
  const { signal, exitCode } = abortOnSignals();
  try {
    const context: CommandContext = { signal };
    await makeProgram(context).parseAsync();
    return context.exitCode ?? (signal.aborted ? exitCode() : EXIT.ok);
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
