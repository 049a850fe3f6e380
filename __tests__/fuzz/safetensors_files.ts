import * as fc from 'fast-check';
import { bitsOf } from '../../weights/dtype';
import { planFile } from '../../weights/safetensors_write';
import { plainString, respell } from './json_texts';
import { array, leaf, type Member, object, quote, render, type Tree, treeOf } from './json_tree';
import {
  type BytesMutation,
  bytesMutation,
  type FileMutation,
  fileMutation,
  mutateBytes,
  mutateFile,
  mutateTree,
  type TreeMutation,
  treeMutation,
} from './mutations';

const DTYPES = ['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U64', 'U32', 'U16', 'U8', 'BOOL', 'C64'];
const SMALL_DTYPES = ['F8_E5M2', 'F8_E4M3', 'F8_E8M0', 'F8_E4M3FNUZ', 'F8_E5M2FNUZ', 'F6_E2M3', 'F6_E3M2', 'F4'];

/** A header and how many bytes its tensors take: a file before anything was done to it. */
export interface Draft {
  readonly header: Tree;
  readonly dataLength: number;
}

export interface DraftTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Where it comes among the data, and how its three fields are ordered. */
  readonly place: number;
}

const tensor: fc.Arbitrary<DraftTensor> = fc.record({
  name: fc.oneof({ weight: 2, arbitrary: fc.constantFrom('a', 'b', 'weight', 'model.layers.0.norm.weight') }, { weight: 3, arbitrary: plainString }),
  dtype: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...DTYPES) }, { weight: 1, arbitrary: fc.constantFrom(...SMALL_DTYPES) }),
  shape: fc.oneof(
    { weight: 4, arbitrary: fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 3 }) },
    { weight: 1, arbitrary: fc.array(fc.nat(3), { maxLength: 5 }) },
    { weight: 1, arbitrary: fc.constantFrom([0], [0, 99999999999999], [2 ** 53 - 1, 0], [1, 1, 1, 1, 1, 1, 1, 1]) },
  ),
  place: fc.nat(99),
});

export const texts: fc.Arbitrary<readonly (readonly [string, string])[]> = fc.uniqueArray(fc.tuple(plainString, plainString), {
  maxLength: 3,
  selector: ([key]) => key,
});

const metadata: fc.Arbitrary<Tree | undefined> = fc.oneof(
  { weight: 3, arbitrary: fc.constant(undefined) },
  {
    weight: 3,
    arbitrary: texts.map((pairs) => object(pairs.map(([key, value]) => ({ key: quote(key), value: leaf(quote(value)) })))),
  },
  { weight: 1, arbitrary: fc.constant(leaf('null')) },
);

/** Tensors with different names, of any types and shapes, as a writer could be given them; none takes more than some hundred bytes. */
export const someTensors: fc.Arbitrary<readonly DraftTensor[]> = fc
  .uniqueArray(tensor, { maxLength: 4, selector: ({ name }) => name })
  .map((tensors) => tensors.filter(({ name }) => name !== '__metadata__').map((each) => ({ ...each, shape: wholeBytes(each) })));

/** A file without fault: any names, types, shapes, order of data, order of entries, and metadata. */
export const validDraft: fc.Arbitrary<Draft> = fc.record({ tensors: someTensors, metadata, metadataPlace: fc.nat(4) }).map((plan) => {
  const laidOut = new Map<DraftTensor, Tree>();
  let end = 0;
  for (const each of [...plan.tensors].sort((a, b) => a.place - b.place)) {
    const begin = end;
    end += byteLength(each);
    laidOut.set(each, entry(each, begin, end));
  }
  const members: Member[] = plan.tensors.map((each) => ({ key: quote(each.name), value: laidOut.get(each) as Tree }));
  if (plan.metadata) members.splice(plan.metadataPlace, 0, { key: '"__metadata__"', value: plan.metadata });
  return { header: object(members), dataLength: end };
});

/** Files as our writer lays them out, untouched. */
const written: fc.Arbitrary<Uint8Array> = fc.record({ tensors: someTensors, texts }).map((given) => {
  const stored = new Map(given.tensors.map((each) => [each.name, { ...each, bytes: new Uint8Array(0) }])); // a layout needs none
  const { header, size } = planFile(stored, new Map(given.texts));
  return assemble(header.subarray(8), size - header.byteLength);
});

export function byteLength({ dtype, shape }: DraftTensor): number {
  return (shape.reduce((product, size) => product * size, 1) * (bitsOf(dtype) as number)) / 8;
}

function entry({ dtype, shape, place }: DraftTensor, begin: number, end: number): Tree {
  const numbers = (values: readonly number[]): Tree => array(values.map((value) => leaf(String(value))));
  const fields: Member[] = [
    { key: '"dtype"', value: leaf(quote(dtype)) },
    { key: '"shape"', value: numbers(shape) },
    { key: '"data_offsets"', value: numbers([begin, end]) },
  ];
  return object([...fields.splice(place % 3), ...fields]);
}

/** Types below a byte need a multiple of 4 elements. */
function wholeBytes({ dtype, shape }: DraftTensor): readonly number[] {
  return (bitsOf(dtype) as number) % 8 === 0 ? shape : [...shape, 4];
}

/** The header of a file that exists. */
export function draftOf(file: Uint8Array): Draft {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const header = treeOf(JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length))));
  return { header, dataLength: file.byteLength - 8 - length };
}

interface Recipe {
  readonly draft: Draft;
  readonly tree: readonly TreeMutation[];
  readonly spellings: readonly number[];
  readonly spaces: readonly string[];
  readonly padding: number;
  readonly bytes: readonly BytesMutation[];
  readonly file: readonly FileMutation[];
}

const few = <T>(mutation: fc.Arbitrary<T>, none: number): fc.Arbitrary<readonly T[]> =>
  fc.oneof({ weight: none, arbitrary: fc.constant([]) }, { weight: 10 - none, arbitrary: fc.array(mutation, { minLength: 1, maxLength: 2 }) });

const space = fc.constantFrom('', '', '', ' ', '\n', '\r\n', '\t');
const badSpace = fc.constantFrom('\v', '\f', '\u00a0', '\ufeff', '\0', '//', '\u2028');

/**
 * Safetensors files, right and wrong, from those that exist and invented ones: faults of structure (keys, types, numbers, offsets), of spelling,
 * of bytes and of length, alone and together. Two in five can be read.
 */
export function safetensorsFile(existing: readonly Draft[]): fc.Arbitrary<Uint8Array> {
  const real = existing.map((draft) => ({ weight: 1, arbitrary: fc.constant(draft) }));
  const mutated = fc
    .record({
      draft: fc.oneof({ weight: 40 * Math.max(existing.length, 1), arbitrary: validDraft }, ...real),
      tree: few(treeMutation, 5),
      spellings: few(fc.nat(), 7),
      spaces: fc.oneof(
        { weight: 14, arbitrary: fc.constant([]) },
        { weight: 5, arbitrary: fc.array(space, { minLength: 1, maxLength: 7 }) },
        {
          weight: 1,
          arbitrary: fc.array(fc.oneof({ weight: 8, arbitrary: space }, { weight: 1, arbitrary: badSpace }), { minLength: 1, maxLength: 9 }),
        },
      ),
      padding: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(9) }),
      bytes: few(bytesMutation, 9),
      file: few(fileMutation, 9),
    })
    .map(build);
  return fc.oneof({ weight: 19, arbitrary: mutated }, { weight: 1, arbitrary: written });
}

function build({ draft, tree, spellings, spaces, padding, bytes, file }: Recipe): Uint8Array {
  const header = structuredClone(draft.header);
  for (const mutation of tree) mutateTree(header, mutation);
  const text = render(header, spaces);
  const spelt = spellings.reduce(respellAny, text) + ' '.repeat(padding);
  let encoded: Uint8Array = new TextEncoder().encode(spelt);
  for (const mutation of bytes) encoded = mutateBytes(encoded, mutation);
  return file.reduce(mutateFile, assemble(encoded, draft.dataLength));
}

/** Spells a character of one of the text's plain strings as an escape. */
function respellAny(text: string, pick: number): string {
  const strings = [...text.matchAll(/"[^"\\]+"/g)];
  if (strings.length === 0) return text;
  const found = strings[pick % strings.length] as RegExpExecArray;
  return text.slice(0, found.index) + respell(found[0], pick) + text.slice(found.index + found[0].length);
}

/** Length field, header, and data in which no two places look alike. */
export function assemble(header: Uint8Array, dataLength: number, length: bigint = BigInt(header.byteLength)): Uint8Array {
  const file = new Uint8Array(8 + header.byteLength + dataLength);
  new DataView(file.buffer).setBigUint64(0, BigInt.asUintN(64, length), true);
  file.set(header, 8);
  for (let i = 0; i < dataLength; i++) file[8 + header.byteLength + i] = Math.imul(i + 1, 0x9e3779b1) >>> 24;
  return file;
}
