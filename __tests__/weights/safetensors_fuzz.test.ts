import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { CheckpointError } from '../../layers/errors';
import { type ByteSource, blobSource, memorySource } from '../../weights/byte_source';
import { openSafetensors } from '../../weights/safetensors';
import { parseHeader } from '../../weights/safetensors_header';
import { encodeSafetensors } from '../../weights/safetensors_write';
import { decodeCases } from '../fuzz/recorded';
import { assemble, byteLength, safetensorsFile, someTensors, texts } from '../fuzz/safetensors_files';
import { compare, REFUSALS } from '../fuzz/verdict';

const PARAMETERS = { numRuns: 1000, seed: 9 };

it('judges thousands of files as the official reader did, but for what the format forbids and JavaScript cannot count', async () => {
  const outcomes: Record<string, number> = {};
  const codes = new Set<string>();
  const disagreements: string[] = [];
  for (const { file, official } of decodeCases(readFileSync(join(__dirname, '..', 'fixtures', 'safetensors', 'verdicts.br')))) {
    const { outcome, own } = await compare(file, official);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    if ('refused' in own) codes.add(own.refused);
    if (outcome === 'disagreement') disagreements.push(`${JSON.stringify(own)} ${Buffer.from(file).toString('base64')}`);
  }
  expect(disagreements).toEqual([]);
  expect(outcomes).toEqual({
    accepted: 1844,
    refused: 4081,
    'a tensor name given twice': 11,
    'a metadata key given twice': 7,
    'an entry written as a list': 12,
    "a dimension from 2^53, which JavaScript can't count": 5,
  });
  expect([...codes].sort()).toEqual([...REFUSALS].sort());
});

it('reads what the writer wrote: names, types, shapes, bytes and metadata of any sort', async () => {
  await fc.assert(
    fc.asyncProperty(someTensors, texts, async (tensors, metadata) => {
      const bytes = tensors.map((each, i) => Uint8Array.from({ length: byteLength(each) }, (_, at) => at * 7 + i));
      const stored = new Map(tensors.map(({ name, dtype, shape }, i) => [name, { dtype, shape, bytes: bytes[i] as Uint8Array }]));
      const file = await openSafetensors(memorySource(await encodeSafetensors(stored, new Map(metadata))));
      expect(new Map(file.metadata)).toEqual(new Map(metadata));
      expect([...file.names].sort()).toEqual(tensors.map(({ name }) => name).sort());
      for (const [i, { name, dtype, shape }] of tensors.entries()) {
        expect(file.info(name)).toMatchObject({ dtype, shape });
        expect(Buffer.compare(await file.bytes(name), bytes[i] as Uint8Array)).toBe(0);
      }
    }),
    { ...PARAMETERS, numRuns: 200 },
  );
});

/** A source that keeps account of what is asked of it. */
function counted(file: Uint8Array): { source: ByteSource; asked: { offset: number; length: number }[] } {
  const asked: { offset: number; length: number }[] = [];
  const memory = memorySource(file);
  const read = (offset: number, length: number): Promise<Uint8Array> => {
    asked.push({ offset, length });
    return memory.read(offset, length);
  };
  return { source: { ...memory, read }, asked };
}

describe('whatever a file declares', () => {
  it('no read, and so no array, is longer than the file, and opening reads no byte twice but the first', async () => {
    await fc.assert(
      fc.asyncProperty(safetensorsFile([]), async (file) => {
        const { source, asked } = counted(file);
        const opened = await openSafetensors(source).catch((error: unknown) => {
          if (!(error instanceof CheckpointError)) throw error;
          return undefined;
        });
        expect(asked.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(file.length + 35); // the start is read to tell a git-LFS pointer
        for (const name of opened?.names ?? []) await opened?.bytes(name);
        for (const { offset, length } of asked) expect(offset + length).toBeLessThanOrEqual(file.length);
      }),
      PARAMETERS,
    );
  });

  const entry = (shape: string, offsets: string): string => `{"t":{"dtype":"U8","shape":${shape},"data_offsets":${offsets}}}`;
  it.each([
    ['a header of 100 MB', assemble(Buffer.from('{}'), 0, 100_000_000n)],
    ['a header of 2^63 bytes', assemble(Buffer.from('{}'), 0, 2n ** 63n)],
    ['a tensor of 4 GB', assemble(Buffer.from(entry('[4294967296]', '[0,4294967296]')), 4)],
    ['a tensor of 2^53 - 1 bytes', assemble(Buffer.from(entry('[9007199254740991]', '[0,9007199254740991]')), 4)],
    ['a tensor of 2^63 bytes', assemble(Buffer.from(entry('[9223372036854775808]', '[0,9223372036854775808]')), 4)],
    ['an offset of 2^50', assemble(Buffer.from(entry('[4]', '[1125899906842624,1125899906842628]')), 4)],
  ])('%s that is not there sets no memory aside', async (_what, file) => {
    const before = process.memoryUsage();
    const blob = new Blob([Uint8Array.from(file)]);
    for (let i = 0; i < 20; i++) {
      await expect(openSafetensors(counted(file).source)).rejects.toBeInstanceOf(CheckpointError);
      await expect(openSafetensors(blobSource(blob))).rejects.toBeInstanceOf(CheckpointError);
    }
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1e6);
    expect(after.rss - before.rss).toBeLessThan(50e6);
  });
});

describe('a hostile header of 4 MB takes time in proportion to its length', () => {
  const SIZE = 4e6;
  const fill = (part: string): string => part.repeat(Math.floor(SIZE / part.length));
  const numbered = (part: (i: number) => string): string => Array.from({ length: SIZE / part(0).length }, (_, i) => part(i)).join(',');
  const tensor = (extra = '', shape = '[0]'): string => `{"dtype":"U8","shape":${shape},"data_offsets":[0,0]${extra}}`;

  it.each([
    ['open brackets', fill('['), 'HEADER_NOT_OBJECT'],
    ['open braces', fill('{"a":'), 'HEADER_NOT_JSON'],
    ['spaces', `{${fill(' ')}}`, 'read'],
    ['one long name', `{"${fill('a')}":${tensor()}}`, 'read'],
    ['a name of escapes', `{"${fill('\\u0041')}":${tensor()}}`, 'read'],
    ['a name without an end', `{"${fill('a')}`, 'HEADER_NOT_JSON'],
    ['a name of backslashes', `{"${fill('\\\\')}`, 'HEADER_NOT_JSON'],
    ['a long unknown dtype', `{"t":${tensor().replace('U8', fill('F'))}}`, 'UNKNOWN_DTYPE'],
    ['one long number', `{"t":${tensor(`,"x":0.${fill('1')}`)}}`, 'read'],
    ['zeros before a large exponent', `{"t":${tensor(`,"x":0.${fill('0')}e${SIZE + 300}`)}}`, 'read'],
    ['one long dimension', `{"t":${tensor('', `[${fill('1')}]`)}}`, 'HEADER_NOT_JSON'],
    ['many dimensions', `{"t":${tensor('', `[${fill('0,')}0]`)}}`, 'read'],
    ['many unknown numbers', `{"t":${tensor(`,"x":[${fill('0,')}0]`)}}`, 'read'],
    ['many unknown lists', `{"t":${tensor(`,"x":[${fill('[],')}0]`)}}`, 'read'],
    ['many unknown fields', `{"t":${tensor(`,${numbered((i) => `"${i.toString(36)}":0`)}`)}}`, 'read'],
    ['many texts', `{"__metadata__":{${numbered((i) => `"${i.toString(36)}":""`)}}}`, 'read'],
    ['many tensors', `{${numbered((i) => `"${i}":${tensor()}`)}}`, 'read'],
  ])('%s', (_what, text, verdict) => {
    const header = Buffer.from(text);
    const started = process.cpuUsage();
    let outcome = 'read';
    try {
      parseHeader(header, 8 + header.length, 'hostile');
    } catch (error) {
      outcome = (error as CheckpointError).code;
      expect((error as CheckpointError).message.length).toBeLessThan(500);
    }
    const { user, system } = process.cpuUsage(started);
    expect(outcome).toBe(verdict);
    expect((user + system) / 1e6).toBeLessThan(20); // one second is usual, jest included; quadratic time would be hours
  });
});
