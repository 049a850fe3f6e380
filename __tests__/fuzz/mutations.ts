import * as fc from 'fast-check';
import { integerText, numberText, plainString, stringText, valueText } from './json_texts';
import { array, leaf, object, quote, slots, type Tree } from './json_tree';

/** Something done to one place of a header; `pick` chooses the place among those there are. */
export type TreeMutation = { readonly pick: number } & (
  | { readonly kind: 'replace'; readonly text: string }
  | { readonly kind: 'remove' | 'double' | 'list' | 'wrap' | 'dtype-object' }
  | { readonly kind: 'number'; readonly text: string }
  | { readonly kind: 'shift'; readonly by: number }
  | { readonly kind: 'swap' | 'double-other'; readonly other: number }
  | { readonly kind: 'add'; readonly key: string; readonly text: string }
);

const dtypeText = fc.constantFrom('F32', 'F16', 'BF16', 'U8', 'F4', 'F6_E2M3', 'BOOL', 'I64', 'f32', 'F128', '', 'float32', 'F8', 'I4').map(quote);
const shapeText = fc.array(integerText, { maxLength: 4 }).map((numbers) => `[${numbers.join(',')}]`);

/** Named alternatives, each with its weight. */
function mutation<K extends string, T extends object>(
  weight: number,
  kind: K,
  rest: { [P in keyof T]: fc.Arbitrary<T[P]> },
): fc.WeightedArbitrary<{ kind: K; pick: number } & T> {
  return {
    weight,
    arbitrary: fc.record({ kind: fc.constant(kind), pick: fc.nat(), ...rest }) as unknown as fc.Arbitrary<{ kind: K; pick: number } & T>,
  };
}

export const treeMutation: fc.Arbitrary<TreeMutation> = fc.oneof(
  mutation(2, 'replace', { text: fc.oneof(valueText, dtypeText, shapeText, fc.constant('null')) }),
  mutation(4, 'number', { text: fc.oneof({ weight: 2, arbitrary: integerText }, { weight: 1, arbitrary: numberText }) }),
  mutation(4, 'shift', { by: fc.oneof(fc.integer({ min: -4, max: 4 }), fc.constantFrom(8, 16, 2 ** 31, 2 ** 53)) }),
  mutation(2, 'swap', { other: fc.nat() }),
  mutation(1, 'double-other', { other: fc.nat() }),
  mutation(1, 'remove', {}),
  mutation(3, 'double', {}),
  mutation(1, 'list', {}),
  mutation(1, 'wrap', {}),
  mutation(1, 'dtype-object', {}),
  mutation(4, 'add', {
    key: fc.oneof(
      { weight: 3, arbitrary: plainString.map(quote) },
      { weight: 1, arbitrary: stringText },
      { weight: 1, arbitrary: fc.constantFrom('"dtype"', '"__metadata__"', '"x"') },
    ),
    text: fc.oneof(
      { weight: 2, arbitrary: stringText },
      { weight: 3, arbitrary: valueText },
      { weight: 1, arbitrary: fc.constant('{"dtype":"F32","shape":[0],"data_offsets":[0,0]}') },
    ),
  }),
);

/** Changes `root` itself; where the chosen place does not suit the mutation, nothing happens. */
export function mutateTree(root: Tree, change: TreeMutation): void {
  const all = slots(root);
  const suiting = (suits: (tree: Tree) => boolean): typeof all => all.filter(({ tree }) => suits(tree));
  const choose = (places: typeof all, pick: number): (typeof all)[number] | undefined => places[pick % places.length];
  const isObject = (tree: Tree): boolean => tree.kind === 'object';
  const isInteger = (tree: Tree): boolean => tree.kind === 'leaf' && /^[0-9]+$/.test(tree.text);
  const slot = choose(all, change.pick);
  switch (change.kind) {
    case 'replace':
      slot?.replace(leaf(change.text));
      break;
    case 'number':
      choose(suiting(isInteger), change.pick)?.replace(leaf(change.text));
      break;
    case 'remove':
      slot?.replace();
      break;
    case 'double':
      slot?.replace(slot.tree, structuredClone(slot.tree));
      break;
    case 'double-other': // the same key with another value
      slot?.replace(slot.tree, structuredClone(choose(all, change.other)?.tree as Tree));
      break;
    case 'list': {
      const found = choose(suiting(isObject), change.pick);
      if (found?.tree.kind === 'object') found.replace(array(found.tree.members.map(({ value }) => value)));
      break;
    }
    case 'wrap':
      slot?.replace(array([slot.tree]));
      break;
    case 'dtype-object': {
      const found = choose(
        suiting((tree) => tree.kind === 'leaf' && tree.text.startsWith('"')),
        change.pick,
      );
      if (found?.tree.kind === 'leaf') found.replace(object([{ key: found.tree.text, value: leaf('null') }]));
      break;
    }
    case 'swap': {
      const other = choose(all, change.other);
      if (!slot || !other || contains(slot.tree, other.tree) || contains(other.tree, slot.tree)) break;
      const [a, b] = [structuredClone(slot.tree), structuredClone(other.tree)];
      slot.replace(b);
      other.replace(a);
      break;
    }
    case 'shift': {
      const numbers = suiting((tree) => tree.kind === 'array' && tree.items.length > 0 && tree.items.every(isInteger));
      const found = choose(numbers, change.pick);
      if (found?.tree.kind === 'array') {
        found.replace(array(found.tree.items.map((item) => leaf(String(BigInt((item as { text: string }).text) + BigInt(change.by))))));
      }
      break;
    }
    default: {
      const target = [{ tree: root }, ...suiting(isObject)][change.pick % (1 + suiting(isObject).length)]?.tree;
      if (target?.kind === 'object')
        target.members.splice(change.pick % (target.members.length + 1), 0, { key: change.key, value: leaf(change.text) });
    }
  }
}

function contains(outer: Tree, inner: Tree): boolean {
  return outer === inner || slots(outer).some(({ tree }) => tree === inner);
}

/** Something done to the header's bytes at one place. */
export interface BytesMutation {
  readonly at: number;
  /** How many bytes go. */
  readonly removed: number;
  readonly inserted: readonly number[];
}

const SYNTAX = [...'{}[],:"0123456789.eE-+ \\tnu\n/a_'].map((character) => [character.charCodeAt(0)]);
/** Bytes that are not UTF-8: stray, overlong, a surrogate, past the last character, cut; and a byte-order mark, which is. */
const SEQUENCES = [
  [0xff],
  [0x80],
  [0xc0, 0xaf],
  [0xed, 0xa0, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
  [0xf0, 0x80, 0x80, 0x80],
  [0xe2, 0x82],
  [0xef, 0xbb, 0xbf],
  [0xc3, 0xa9],
  [0],
];

export const bytesMutation: fc.Arbitrary<BytesMutation> = fc.record({
  at: fc.oneof({ weight: 4, arbitrary: fc.nat() }, { weight: 1, arbitrary: fc.constant(0) }),
  removed: fc.oneof({ weight: 6, arbitrary: fc.nat(1) }, { weight: 1, arbitrary: fc.nat(40) }),
  inserted: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...SYNTAX) },
    { weight: 2, arbitrary: fc.constantFrom(...SEQUENCES) },
    { weight: 1, arbitrary: fc.array(fc.nat(255), { maxLength: 2 }) },
  ),
});

export function mutateBytes(bytes: Uint8Array, { at, removed, inserted }: BytesMutation): Uint8Array {
  const index = at % (bytes.length + 1);
  return Uint8Array.from([...bytes.subarray(0, index), ...inserted, ...bytes.subarray(index + removed)]);
}

/** Something done to the file as a whole. */
export type FileMutation =
  | { readonly kind: 'length'; readonly value: bigint }
  | { readonly kind: 'length-by'; readonly value: bigint }
  | { readonly kind: 'cut'; readonly value: number }
  | { readonly kind: 'append'; readonly value: number };

const fixed = <K extends string, T>(weight: number, kind: K, value: fc.Arbitrary<T>): fc.WeightedArbitrary<{ kind: K; value: T }> => ({
  weight,
  arbitrary: fc.record({ kind: fc.constant(kind), value }),
});

export const fileMutation: fc.Arbitrary<FileMutation> = fc.oneof(
  fixed(
    2,
    'length',
    fc.oneof(fc.bigInt(0n, 200n), fc.constantFrom(100_000_000n, 100_000_001n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 1n)),
  ),
  fixed(3, 'length-by', fc.bigInt(-12n, 12n)),
  fixed(3, 'cut', fc.oneof(fc.nat(12), fc.nat())),
  fixed(3, 'append', fc.nat(12)),
);

export function mutateFile(file: Uint8Array, { kind, value }: FileMutation): Uint8Array {
  if (kind === 'append') return Uint8Array.from([...file, ...new Uint8Array(value)]);
  if (kind === 'cut') return file.slice(0, file.length - (value % (file.length + 1)));
  const changed = Uint8Array.from(file);
  if (changed.length < 8) return changed;
  const view = new DataView(changed.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, kind === 'length' ? value : view.getBigUint64(0, true) + value), true);
  return changed;
}
