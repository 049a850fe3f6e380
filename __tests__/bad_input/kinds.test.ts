import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KINDS } from './kinds';

it('every kind of bad input has a test that names its number', () => {
  const tests = readdirSync(__dirname).filter((name) => name.endsWith('.test.ts'));
  const sources = tests.map((name) => readFileSync(join(__dirname, name), 'utf8')).join('\n');
  // `kind: 7` of a row; and the first argument of the functions that make rows or tests.
  const named = new Set([...sources.matchAll(/(?:\bkind:|\b(?:row|checkpoint|prompt|works)\()\s*(\d+),/g)].map((match) => match[1]));
  named.add(/function contradiction.*?kind: (\d+)/s.exec(sources)?.[1] ?? '');
  expect(Object.keys(KINDS)).toHaveLength(58);
  expect(Object.keys(KINDS).filter((kind) => !named.has(kind))).toEqual([]);
});
