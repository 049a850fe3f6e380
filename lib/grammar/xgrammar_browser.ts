import { PromptError } from '../../layers/errors';
import type { LoadedXgrammar } from './xgrammar_node';

/** Its package (0.1.27) asks for modules of Node, so bundlers of pages refuse it. @throws PromptError `SCHEMA_NEEDS_NODE` */
export function loadXgrammar(): Promise<LoadedXgrammar> {
  const what = 'An answer by "schema" needs the grammar library XGrammar, whose package can not be bundled for a page.';
  return Promise.reject(new PromptError('SCHEMA_NEEDS_NODE', `${what} Ask in Node, or give "choices".`));
}
