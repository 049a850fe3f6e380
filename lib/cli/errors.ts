import { VisPrunerError } from '../../layers/errors';

/** The command line itself is wrong: exit code 2. */
export class UseError extends VisPrunerError {}

/** A result can't be written where it was asked for. */
export class OutputError extends VisPrunerError {}

/** Runs what only looks at options; its errors become errors of use, with their code and message. */
export function asUse<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof VisPrunerError) throw new UseError(error.code, error.message, { cause: error });
    throw error;
  }
}
