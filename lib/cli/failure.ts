import { ERROR_CODES } from '../../layers/error_codes';
import { VisPrunerError } from '../../layers/errors';

export const EXIT = { ok: 0, failure: 1, wrongUse: 2, interrupt: 130, terminate: 143 } as const;

/** An error that nobody waited for, in a timer or an event, ends the program as any other does. */
export function failOnUncaught(): void {
  process.on('uncaughtException', (error) => {
    const { message, code } = failure(error);
    console.error(message);
    process.exit(code);
  });
}

/** What went wrong, on one line for stderr, and the exit code: 2 where what was typed is wrong, 1 where what it names is. */
export function failure(error: unknown): { message: string; code: number } {
  const debug = process.env.VISPRUNER_DEBUG ? `\n${error instanceof Error ? error.stack : ''}` : '';
  if (error instanceof VisPrunerError) {
    const use = ERROR_CODES[error.name]?.[error.code]?.use ?? false;
    return { message: `error [${error.code}]: ${error.message}${debug}`, code: use ? EXIT.wrongUse : EXIT.failure };
  }
  const [line = ''] = String(error).split('\n');
  const hint = 'This was not foreseen: please report it with the command that led here. VISPRUNER_DEBUG=1 shows where it happened.';
  return { message: `error: ${line}. ${hint}${debug}`, code: EXIT.failure };
}
