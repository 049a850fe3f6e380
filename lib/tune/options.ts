import { PruneError } from '../../layers/errors';
import { show } from '../prune/checks';

/** A number of a search, or its default. @throws PruneError `SEARCH_OPTION` */
export function searchNumber(
  options: Readonly<Record<string, unknown>>,
  name: string,
  usual: number,
  { least, most = Number.POSITIVE_INFINITY, whole = false }: { readonly least: number; readonly most?: number; readonly whole?: boolean },
): number {
  const value = options[name] ?? usual;
  if (typeof value !== 'number' || !(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    const range = most === Number.POSITIVE_INFINITY ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new PruneError('SEARCH_OPTION', `Search option "${name}" is ${show(value)}. Give a ${whole ? 'whole ' : ''}number ${range}.`);
  }
  return value;
}
