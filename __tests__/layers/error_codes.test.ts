import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ts from 'typescript';
import { ERROR_CODES } from '../../layers/error_codes';
import { errorsPage } from '../../lib/errors_page';

const ROOT = join(__dirname, '../..');

/** Strings and property names of all sources but the catalogue itself: where a code that can be thrown has to be written. */
function wordsOfSources(): ReadonlySet<string> {
  const words = new Set<string>();
  for (const room of ['layers', 'weights', 'lib', 'convert']) {
    for (const file of readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || file === 'error_codes.ts') continue;
      const visit = (node: ts.Node): void => {
        if (ts.isStringLiteral(node) || (ts.isIdentifier(node) && ts.isPropertyAssignment(node.parent))) words.add(node.text);
        ts.forEachChild(node, visit);
      };
      visit(ts.createSourceFile(file, readFileSync(join(ROOT, room, file), 'utf8'), ts.ScriptTarget.Latest, true));
    }
  }
  return words;
}

const codes = Object.entries(ERROR_CODES).flatMap(([name, table]) => Object.entries(table).map(([code, entry]) => ({ name, code, ...entry })));

it('every code in the catalogue is thrown somewhere', () => {
  const words = wordsOfSources();
  expect(codes.filter(({ code }) => !words.has(code)).map(({ code }) => code)).toEqual([]);
});

it('a code belongs to one class', () => {
  const names = codes.map(({ code }) => code);
  expect(names.filter((code, i) => names.indexOf(code) !== i)).toEqual([]);
});

it('causes and remedies are sentences', () => {
  for (const { code, cause, remedy } of codes) {
    expect(`${code}: ${cause}`).toMatch(/^[A-Z][A-Z0-9_]+: \S.*\.$/);
    expect(`${code}: ${remedy}`).toMatch(/^[A-Z][A-Z0-9_]+: \S.*\.$/);
  }
});

it('docs/errors.md lists what the catalogue holds ("npm run docs:errors" writes it anew)', () => {
  expect(readFileSync(join(ROOT, 'docs/errors.md'), 'utf8')).toBe(errorsPage());
});
