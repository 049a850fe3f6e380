import { readFile } from 'node:fs/promises';
import { compileFunction } from 'node:vm';
import type * as xgrammar from '@mlc-ai/web-xgrammar';

/** The grammar library, and what it says when it fails. */
export interface LoadedXgrammar {
  readonly xgrammar: typeof xgrammar;
  lastError(): string | undefined;
}

/**
 * Starts an instance of XGrammar (its wasm is inside the file).
 *
 * The package calls itself an ES module but holds a script for `module.exports`, so neither `import` nor `require` can load it in Node (0.1.27). It is run as
 * what it is, and without `process`: then it takes the way that needs nothing of Node, adds no listeners, and its messages come here and not to the console.
 */
export async function loadXgrammar(): Promise<LoadedXgrammar> {
  const path = require.resolve('@mlc-ai/web-xgrammar');
  const script = compileFunction(await readFile(path, 'utf8'), ['exports', 'module', 'process', 'location', 'console'], { filename: path });
  const module = { exports: {} as typeof xgrammar };
  let last: string | undefined;
  const hear = (...words: unknown[]) => {
    const text = words.join(' ');
    if (text.includes('[FATAL]')) last = text;
  };
  script(module.exports, module, undefined, { href: '' }, { log: hear, info: hear, warn: hear, error: hear });
  return { xgrammar: module.exports, lastError: () => last };
}
