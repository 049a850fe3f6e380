import { type UseCode, VisPrunerError } from '../../layers/errors';

/** The command line itself is wrong in a way that only the command line knows. */
export class UseError extends VisPrunerError<UseCode> {}
