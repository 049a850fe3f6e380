import { PruneError } from '../../layers/errors';
import { checkNames } from '../prune/checks';
import type { Method } from '../prune/method';
import { METHODS, type PruneOptions } from '../prune/registry';

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
  const methods = splitOutside(text, ',').flatMap((label) => (label === 'all' ? EVERY.map(parseMethod) : [parseMethod(label)]));
  for (const [i, { label }] of methods.entries()) {
    if (methods.findIndex((other) => other.label === label) < i) throw new PruneError('METHOD_LIST', `"${label}" is named twice. Name it once.`);
  }
  return methods;
}

function parseMethod(label: string): ComparedMethod {
  const [name = '', ...parts] = splitOutside(label, ':');
  const method = methodNamed(name);
  if (name === 'none') throw new PruneError('METHOD_LIST', '"none" is no method to compare: all tokens are always asked. Leave it out.');
  const options: Record<string, unknown> = {};
  for (const part of parts) {
    const equals = part.indexOf('=');
    if (equals < 1)
      throw new PruneError('METHOD_LIST', `"${part}" of "${label}" is not option=value. Write, as an example, vispruner:importantRatio=0.7.`);
    options[part.slice(0, equals).trim()] = parseValue(part.slice(equals + 1).trim());
  }
  const set = SET_BY_COMPARISON.find((option) => option in options);
  if (set !== undefined) {
    throw new PruneError(
      'METHOD_LIST',
      `"${label}" has the option "${set}", which a comparison sets itself. Give budgets and seeds for all methods.`,
    );
  }
  checkNames(options, method.options, `Method "${name}"`);
  return { label, name, options };
}

/** @throws PruneError `METHOD_UNKNOWN` */
export function methodNamed(name: string): Method<PruneOptions> {
  if (!Object.hasOwn(METHODS, name)) {
    throw new PruneError('METHOD_UNKNOWN', `Pruning method "${name}" is not known. Use some of these: ${Object.keys(METHODS).join(', ')}.`);
  }
  return METHODS[name as keyof typeof METHODS] as Method<PruneOptions>;
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Parts between separators that stand outside of brackets. */
function splitOutside(text: string, separator: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let part = '';
  for (const character of text) {
    if ('[{'.includes(character)) depth++;
    if (']}'.includes(character)) depth--;
    if (character === separator && depth === 0) {
      parts.push(part.trim());
      part = '';
    } else part += character;
  }
  return [...parts, part.trim()].filter((one) => one !== '');
}
