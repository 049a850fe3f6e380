import { PruneError } from '../../layers/errors';
import { checkNames } from './checks';
import type { Method } from './method';
import { METHODS, type PruneOptions } from './registry';

/** A method and options of it, as a command line has them. */
export interface WrittenMethod {
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** @throws PruneError `METHOD_UNKNOWN` */
export function methodNamed(name: string): Method<PruneOptions> {
  if (!Object.hasOwn(METHODS, name)) {
    throw new PruneError('METHOD_UNKNOWN', `Pruning method "${name}" is not known. Use some of these: ${Object.keys(METHODS).join(', ')}.`);
  }
  return METHODS[name as keyof typeof METHODS] as Method<PruneOptions>;
}

/**
 * Reads a method with its options: `pyramiddrop:layers=[2,8]:ratio=0.4`. Values are JSON or, where they are not, text.
 * @throws PruneError `METHOD_LIST` (not in this form), `METHOD_UNKNOWN`, `METHOD_OPTION_UNKNOWN`
 */
export function parseMethod(text: string): WrittenMethod {
  const [name = '', ...parts] = splitOutside(text, ':');
  const method = methodNamed(name);
  const options: Record<string, unknown> = {};
  for (const part of parts) {
    const equals = part.indexOf('=');
    if (equals < 1)
      throw new PruneError('METHOD_LIST', `"${part}" of "${text}" is not option=value. Write, as an example, vispruner:importantRatio=0.7.`);
    options[part.slice(0, equals).trim()] = parseValue(part.slice(equals + 1).trim());
  }
  checkNames(options, method.options, `Method "${name}"`);
  return { name, options };
}

/** Parts between separators that stand outside of brackets; empty ones are left out. */
export function splitOutside(text: string, separator: string): string[] {
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

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
