import { PruneError } from '../../layers/errors';
import type { Method } from '../prune/method';
import { METHODS, type PruneOptions } from '../prune/registry';
import { parseMethod, splitOutside } from '../prune/written';

export { methodNamed } from '../prune/written';

/** A method to be compared, with options of its own. */
export interface ComparedMethod {
  /** As it was written: the row of the tables. */
  readonly label: string;
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** What a comparison sets itself. */
const SET_BY_COMPARISON = ['tokens', 'keepRatio', 'averageTokens', 'seed'];

/** Methods that take a budget. */
const EVERY: readonly string[] = Object.entries<Method<PruneOptions>>(METHODS as unknown as Record<string, Method<PruneOptions>>)
  .filter(([, { forAverage }]) => forAverage !== undefined)
  .map(([name]) => name);

/**
 * Reads methods as a command line has them: `vispruner,vispruner:importantRatio=0.7,random`. Values are JSON or, where they are not, text.
 * `all` stands for every method that takes a budget.
 * @throws PruneError `METHOD_LIST`, `METHOD_UNKNOWN`, `METHOD_OPTION_UNKNOWN`
 */
export function parseMethods(text: string): ComparedMethod[] {
  const methods = splitOutside(text, ',').flatMap((label) => (label === 'all' ? EVERY.map(compared) : [compared(label)]));
  for (const [i, { label }] of methods.entries()) {
    if (methods.findIndex((other) => other.label === label) < i) throw new PruneError('METHOD_LIST', `"${label}" is named twice. Name it once.`);
  }
  return methods;
}

/** @throws PruneError as `parseMethods` */
function compared(label: string): ComparedMethod {
  const { name, options } = parseMethod(label);
  if (name === 'none') throw new PruneError('METHOD_LIST', '"none" is no method to compare: all tokens are always asked. Leave it out.');
  const set = SET_BY_COMPARISON.find((option) => option in options);
  if (set !== undefined) {
    throw new PruneError(
      'METHOD_LIST',
      `"${label}" has the option "${set}", which a comparison sets itself. Give budgets and seeds for all methods.`,
    );
  }
  return { label, name, options };
}
