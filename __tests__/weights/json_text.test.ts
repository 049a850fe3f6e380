import * as fc from 'fast-check';
import { JsonCursor, JsonTextError } from '../../weights/json_text';
import { numberText, stringText, valueText } from '../fuzz/json_texts';
import { object, render, type Tree } from '../fuzz/json_tree';
import { mutateTree, treeMutation } from '../fuzz/mutations';

const PARAMETERS = { numRuns: 1500, seed: 4 };

/** The value at the cursor, as `JSON.parse` gives it. */
function value(cursor: JsonCursor): unknown {
  const kind = cursor.kind();
  if (kind === 'string') return cursor.string();
  if (kind === 'number') return Number(cursor.number());
  if (kind === 'array') {
    const items: unknown[] = [];
    cursor.array(() => items.push(value(cursor)));
    return items;
  }
  if (kind === 'object') {
    const entries: [string, unknown][] = [];
    cursor.object((key) => entries.push([key, value(cursor)]));
    return Object.fromEntries(entries);
  }
  cursor.skip();
  return { true: true, false: false, null: null }[kind];
}

function read(text: string): { value: unknown } | undefined {
  try {
    const cursor = new JsonCursor(text);
    const result = { value: value(cursor) };
    cursor.end();
    return result;
  } catch (error) {
    if (error instanceof JsonTextError) return undefined;
    throw error;
  }
}

function parsed(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

/** Whether a text has one of the things for which we refuse what JSON.parse takes: escaped surrogates, large numbers, many brackets. */
function mayBeStricter(text: string): boolean {
  return /\\ud[89a-f]|[0-9]e|[0-9]{300}/i.test(text) || (text.match(/[[{]/g) ?? []).length > 127;
}

const texts: fc.Arbitrary<string> = fc.oneof(
  valueText,
  fc
    .record({ mutations: fc.array(treeMutation, { minLength: 1, maxLength: 4 }), space: fc.constantFrom('', ' ', '\t', '\u00a0') })
    .map(({ mutations, space }) => {
      const tree: Tree = object([]);
      for (const mutation of mutations) mutateTree(tree, mutation);
      return render(tree, [space]);
    }),
  fc.json(),
  fc.array(fc.constantFrom(...'{}[],:"\\0123456789.eE+- \n\ttruefalsn'), { maxLength: 12 }).map((parts) => parts.join('')),
);

it('reads what JSON.parse reads, and refuses what it refuses, but for lone surrogates, infinite numbers and deep nests', async () => {
  const count = { read: 0, refused: 0, stricter: 0 };
  await fc.assert(
    fc.property(texts, (text) => {
      const [ours, expected] = [read(text), parsed(text)];
      if (ours || !expected) {
        expect(ours).toEqual(expected);
        count[ours ? 'read' : 'refused']++;
      } else {
        expect([text, mayBeStricter(text)]).toEqual([text, true]);
        count.stricter++;
      }
    }),
    PARAMETERS,
  );
  expect(count.read).toBeGreaterThan(300);
  expect(count.refused).toBeGreaterThan(300);
  expect(count.stricter).toBeGreaterThan(10);
});

it('reads and skips alike', async () => {
  await fc.assert(
    fc.property(fc.oneof(texts, numberText, stringText), (text) => {
      const skipped = ((): boolean => {
        try {
          const cursor = new JsonCursor(text);
          cursor.skip();
          cursor.end();
          return true;
        } catch (error) {
          if (error instanceof JsonTextError) return false;
          throw error;
        }
      })();
      expect(skipped).toBe(read(text) !== undefined);
    }),
    PARAMETERS,
  );
});

it('keeps what JSON.parse loses: the spelling of numbers, keys given twice, __proto__', () => {
  const cursor = new JsonCursor('{"a":2.0,"a":9007199254740993,"__proto__":1e0}');
  const seen: string[] = [];
  cursor.object((key) => seen.push(`${key} ${cursor.number()}`));
  expect(seen).toEqual(['a 2.0', 'a 9007199254740993', '__proto__ 1e0']);
});
