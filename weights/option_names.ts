import { ConfigError } from '../layers/errors';

/** The names of all options of a function: the compiler sees to it that none is left out. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Refuses what a function does not take: without types, an option with a misspelt name would do nothing, in silence.
 * @param owner how the message calls the function
 * @throws ConfigError `OPTION_UNKNOWN`
 */
export function checkOptionNames<Options extends object>(options: Options, known: OptionNames<Options>, owner: string): void {
  const names = Object.keys(known).join(', ');
  if (typeof options !== 'object' || options === null) {
    throw new ConfigError('OPTION_UNKNOWN', `The options of ${owner} are ${String(options)}; they must be an object. Give one with: ${names}.`);
  }
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(known, name));
  if (unknown !== undefined) throw new ConfigError('OPTION_UNKNOWN', `${owner} has no option "${unknown}". Use one of these: ${names}.`);
}
