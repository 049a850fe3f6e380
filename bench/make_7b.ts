/**
 * Writes a checkpoint of LLaVA-1.5-7B's shape with random weights, in shards, as transformers lays them out:
 *
 *   npm run bench:make-7b -- runs/7b [--blocks 32] [--dtype bfloat16|float16]
 *
 * Weights are normal with variance 1 / fan-in, norms 1, biases of deviation 0.02, so that values neither grow nor vanish on their way. The same tensor has
 * the same values in every run. It has no tokenizer: it is spoken to in token ids. Memory does not grow with the model; the directory gets its name when
 * all is written.
 */
import { mkdir, rename, rm, statfs, writeFile } from 'node:fs/promises';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { writeSafetensors } from '../lib/index';
import { BLOCKS, llava7b, tensors7b } from './llava_7b';

const SHARD = 5e9;
const TYPES = { bfloat16: 'BF16', float16: 'F16' } as const;
type Half = keyof typeof TYPES;

interface Entry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { blocks: { type: 'string', default: String(BLOCKS) }, dtype: { type: 'string', default: 'bfloat16' } },
  });
  const [directory] = positionals;
  const blocks = Number(values.blocks);
  if (!directory || positionals.length > 1) throw new Error('Give one directory to write: npm run bench:make-7b -- runs/7b');
  if (!Number.isInteger(blocks) || blocks < 1) throw new Error(`--blocks is "${values.blocks}"; give a whole number from 1.`);
  if (!(values.dtype in TYPES)) throw new Error(`--dtype is "${values.dtype}"; there are ${Object.keys(TYPES).join(' and ')}.`);
  const shards = inShards(blocks);
  const totalBytes = shards.flat().reduce((sum, { byteLength }) => sum + byteLength, 0);
  await mkdir(path.dirname(path.resolve(directory)), { recursive: true });
  const { bavail, bsize } = await statfs(path.dirname(path.resolve(directory)));
  if (bavail * bsize < totalBytes + 2 ** 30) {
    throw new Error(`${(totalBytes / 1e9).toFixed(1)} GB and 1 GiB to spare are needed, and ${((bavail * bsize) / 1e9).toFixed(1)} GB are free.`);
  }
  const temporary = `${path.resolve(directory)}.partial-${process.pid}`;
  await mkdir(temporary);
  try {
    await write(temporary, shards, { blocks, dtype: values.dtype as Half, totalBytes });
    await rename(temporary, directory); // fails where files are already
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

function inShards(blocks: number): Entry[][] {
  const shards: Entry[][] = [[]];
  let filled = 0;
  for (const [name, shape] of tensors7b(blocks)) {
    const byteLength = 2 * shape.reduce((product, size) => product * size, 1);
    if (filled + byteLength > SHARD) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)?.push({ name, shape, byteLength });
    filled += byteLength;
  }
  return shards;
}

async function write(
  directory: string,
  shards: readonly (readonly Entry[])[],
  { blocks, dtype, totalBytes }: { readonly blocks: number; readonly dtype: Half; readonly totalBytes: number },
): Promise<void> {
  const weightMap: Record<string, string> = {};
  const begun = performance.now();
  let done = 0;
  for (const [i, shard] of shards.entries()) {
    const file = `model-${String(i + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`;
    const entries = shard.map(({ name, shape, byteLength }) => {
      weightMap[name] = file;
      const bytes = async () => {
        const values = random(name, shape, dtype);
        done += byteLength;
        report(done, totalBytes, begun);
        return values;
      };
      return [name, { dtype: TYPES[dtype], shape, bytes }] as const;
    });
    await writeSafetensors(path.join(directory, file), new Map(entries), { format: 'pt' });
  }
  const index = { metadata: { total_size: totalBytes }, weight_map: weightMap };
  await writeFile(path.join(directory, 'model.safetensors.index.json'), `${JSON.stringify(index, undefined, 2)}\n`);
  await writeFile(path.join(directory, 'config.json'), `${JSON.stringify(llava7b(blocks, dtype), undefined, 2)}\n`);
  console.error(`\n${directory.replace(/\.partial-\d+$/, '')}: ${(totalBytes / 1e9).toFixed(2)} GB in ${shards.length} file(s)`);
}

function report(done: number, total: number, begun: number): void {
  const rate = done / (performance.now() - begun) / 1e6;
  const line = `${(done / 1e9).toFixed(2)} of ${(total / 1e9).toFixed(2)} GB, ${rate.toFixed(2)} GB/s`;
  if (process.stderr.isTTY) process.stderr.write(`\r${line}`);
  else if (Math.floor((10 * done) / total) > Math.floor((10 * (done - 1)) / total)) console.error(line);
}

/** Little-endian values of a tensor, drawn from its name. */
function random(name: string, shape: readonly number[], dtype: Half): Uint8Array {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = new Uint32Array(Math.ceil(count / 2));
  const vector = shape.length === 1;
  if (vector && /norm\d*\.weight$/.test(name))
    return new Uint8Array(values.fill(dtype === 'bfloat16' ? 0x3f803f80 : 0x3c003c00).buffer, 0, 2 * count);
  const inputs = vector ? count : shape.slice(1).reduce((product, size) => product * size, 1);
  const table = normals(name.endsWith('bias') ? 0.02 : 1 / Math.sqrt(inputs), dtype);
  let state = 0x811c9dc5;
  for (const letter of name) state = Math.imul(state ^ letter.charCodeAt(0), 0x01000193); // FNV-1a
  for (let i = 0; i < values.length; i++) {
    state = (state + 0x9e3779b9) | 0; // splitmix32
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    z ^= z >>> 15;
    values[i] = (table[z & 0xffff] as number) | ((table[z >>> 16] as number) << 16);
  }
  return new Uint8Array(values.buffer, 0, 2 * count);
}

const tables = new Map<number, Uint16Array>();

/** 65,536 normal numbers of a deviation, as the bits of a type. */
function normals(deviation: number, dtype: Half): Uint16Array {
  let table = tables.get(deviation);
  if (table) return table;
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const bits = dtype === 'bfloat16' ? bfloat16Bits : float16Bits;
  table = Uint16Array.from({ length: 65536 }, () => bits(deviation * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())));
  tables.set(deviation, table);
  return table;
}

const [single, singleBits] = ((values) => [values, new Uint32Array(values.buffer)] as const)(new Float32Array(1));

/** Cut off, which is as random as rounded. */
function bfloat16Bits(value: number): number {
  single[0] = value;
  return (singleBits[0] as number) >>> 16;
}

/** Cut off; below 2^-14 it is 0. */
function float16Bits(value: number): number {
  single[0] = value;
  const word = singleBits[0] as number;
  const exponent = ((word >>> 23) & 0xff) - 112;
  const sign = (word >>> 16) & 0x8000;
  return exponent <= 0 ? sign : sign | (exponent << 10) | ((word >>> 13) & 0x3ff);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
