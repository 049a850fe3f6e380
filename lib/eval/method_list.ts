import { PruneError } from '../../layers/errors';
import type { Method } from '../prune/method';
import { createPruner, METHODS, type PruneOptions } from '../prune/registry';
import type { RequestView } from '../prune/types';
import { methodNamed, parseMethod, splitOutside } from '../prune/written';

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

/** What a file of options has, by its path. @throws PruneError `METHOD_LIST` */
export type ReadOptions = (file: string) => Readonly<Record<string, unknown>>;

/** Any model's will do to see whether a method asks for more than a budget. */
const SOME_REQUEST: RequestView = {
  encoder: { blocks: 24, featureBlock: 22, heads: 16, hasClassToken: true, feedsClassToken: false },
  decoderBlocks: 32,
  patchesPerCrop: [256],
  grids: [{ rows: 16, columns: 16 }],
};

/**
 * Reads methods as a command line has them: `vispruner,vispruner:importantRatio=0.7,random`. Values are JSON or, where they are not, text; `name@file` has
 * the options of a file, but for its budget. `all` stands for every method that a budget is enough for.
 *
 * @throws PruneError `METHOD_LIST`, `METHOD_UNKNOWN`, `METHOD_OPTION_UNKNOWN`
 */
export function parseMethods(text: string, readOptions: ReadOptions = refuseFiles): ComparedMethod[] {
  const methods = splitOutside(text, ',').flatMap((label) => (label === 'all' ? every() : [compared(label, readOptions)]));
  for (const [i, { label }] of methods.entries()) {
    if (methods.findIndex((other) => other.label === label) < i) throw new PruneError('METHOD_LIST', `"${label}" is named twice. Name it once.`);
  }
  return methods;
}

function every(): ComparedMethod[] {
  return Object.keys(METHODS)
    .filter((name) => isEnough(methodNamed(name)))
    .map((name) => ({ label: name, name, options: {} }));
}

function isEnough(method: Method<PruneOptions>): boolean {
  const options = method.forAverage?.(128, { patches: 256, decoderBlocks: SOME_REQUEST.decoderBlocks });
  if (!options) return false;
  try {
    createPruner(options).begin(SOME_REQUEST).dispose();
    return true;
  } catch {
    return false; // a codebook is missing, or the like
  }
}

/** @throws PruneError as `parseMethods` */
function compared(label: string, readOptions: ReadOptions): ComparedMethod {
  const [, named, file, rest = ''] = /^([^:@]+)@([^:]+)(.*)$/.exec(label) ?? [];
  const { name, options } = parseMethod(named === undefined ? label : `${named}${rest}`);
  if (name === 'none') throw new PruneError('METHOD_LIST', '"none" is no method to compare: all tokens are always asked. Leave it out.');
  const set = SET_BY_COMPARISON.find((option) => option in options);
  if (set !== undefined) {
    throw new PruneError(
      'METHOD_LIST',
      `"${label}" has the option "${set}", which a comparison sets itself. Give budgets and seeds for all methods.`,
    );
  }
  if (file === undefined) return { label, name, options };
  const { method = name, ...found } = readOptions(file);
  if (method !== name)
    throw new PruneError('METHOD_LIST', `${file} has options of method "${String(method)}", not of "${name}". Write ${String(method)}@${file}.`);
  const own = Object.fromEntries(Object.entries(found).filter(([option]) => !SET_BY_COMPARISON.includes(option)));
  return { label, name, options: { ...own, ...options } };
}

function refuseFiles(file: string): never {
  throw new PruneError('METHOD_LIST', `Options can't be read from ${file} here. Write them out.`);
}
