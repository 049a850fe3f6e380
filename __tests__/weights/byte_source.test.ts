import { chmod, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readText } from '../../weights/byte_directory';
import { openDirectory } from '../../weights/byte_directory_node';
import { type ByteSource, blobSource, memorySource, openUrl } from '../../weights/byte_source';
import { openFile } from '../../weights/byte_source_node';
import { watchedSignal } from '../support/aborts';

const content = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
let folder: string;
let server: Server;
let origin: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'byte-source-'));
  server = createServer((request, response) => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (request.url === '/missing') {
      response.writeHead(404).end();
    } else if (request.url === '/whole' || !range) {
      response.writeHead(200).end(content);
    } else if (request.url === '/short') {
      response
        .writeHead(206, { 'Content-Range': `bytes ${range[1]}-${range[2]}/1000` })
        .end(content.subarray(Number(range[1]), Number(range[1]) + 1));
    } else if (request.url === '/slow' && range[1] !== '0') {
      // never answers
    } else {
      const part = content.subarray(Number(range[1]), Number(range[2]) + 1);
      response.writeHead(206, { 'Content-Range': `bytes ${range[1]}-${range[2]}/1000` }).end(part);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true });
});

async function file(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

describe('every source', () => {
  const open: Record<string, () => Promise<ByteSource>> = {
    memory: async () => memorySource(content),
    blob: async () => blobSource(new Blob([content])),
    url: () => openUrl(`${origin}/ranges`),
    file: async () => openFile(await file('same.bin', content)),
  };

  it.each(Object.keys(open))('%s gives exactly the bytes asked for, none at all included', async (kind) => {
    const source = await open[kind]!();
    expect(source.size).toBe(1000);
    expect([...(await source.read(0, 1000))]).toEqual([...content]);
    expect([...(await source.read(997, 3))]).toEqual([...content.subarray(997)]);
    expect((await source.read(1000, 0)).byteLength).toBe(0);
    await source.close();
    await source.close();
  });

  it.each(Object.keys(open))('%s refuses a range outside of it instead of giving less', async (kind) => {
    const source = await open[kind]!();
    for (const [offset, length] of [
      [0, 1001],
      [999, 2],
      [-1, 1],
      [0.5, 1],
      [0, Number.NaN],
    ] as const) {
      await expect(source.read(offset, length)).rejects.toMatchObject({ code: 'READ_PAST_END' });
    }
    await source.close();
  });

  it.each(Object.keys(open))('%s does not read for an aborted signal', async (kind) => {
    const source = await open[kind]!();
    await expect(source.read(0, 10, AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop');
    await source.close();
  });
});

describe('a file', () => {
  it('names a missing file, a directory, and one without permission', async () => {
    await expect(openFile(join(folder, 'absent'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    await expect(openFile(folder)).rejects.toMatchObject({ code: 'IS_DIRECTORY' });
    const secret = await file('secret.bin', content);
    await chmod(secret, 0);
    if (process.getuid?.() === 0) return; // root may read everything
    await expect(openFile(secret)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });

  it('ends a long read at the first look after the abort, of which there is one every 16 MiB', async () => {
    const path = join(folder, 'long.bin');
    await writeFile(path, '');
    await truncate(path, 80 * 2 ** 20);
    const file = await openFile(path);
    const whole = watchedSignal();
    await file.read(0, file.size, whole.signal);
    expect(whole.looks).toBeGreaterThanOrEqual(5);
    const aborted = watchedSignal(3);
    await expect(file.read(0, file.size, aborted.signal)).rejects.toThrow('aborted at look 3');
    expect(aborted.looks).toBe(3);
    await file.close();
  });

  it('says so when the file shrinks while it is open', async () => {
    const path = await file('shrinking.bin', content);
    const source = await openFile(path);
    await truncate(path, 100);
    await expect(source.read(50, 100)).rejects.toMatchObject({ code: 'FILE_SHRANK' });
    await source.close();
  });
});

describe('a file that is larger than memory', () => {
  it('is read in pieces, and not at once', async () => {
    const path = await file('sparse.bin', content);
    await truncate(path, 2 ** 40);
    const source = await openFile(path);
    expect([...(await source.read(998, 4))]).toEqual([...content.subarray(998), 0, 0]);
    await expect(source.read(0, 2 ** 40)).rejects.toMatchObject({ name: 'CheckpointError', code: 'READ_TOO_LARGE' });
    await source.close();
  });

  it('is not read as a text', async () => {
    await truncate(await file('tokenizer.json', content), 2 ** 40);
    await expect(readText(await openDirectory(folder), 'tokenizer.json')).rejects.toMatchObject({ name: 'CheckpointError', code: 'TEXT_TOO_LARGE' });
  });
});

describe('a URL', () => {
  it('refuses a server that ignores Range, for it would send the whole file', async () => {
    await expect(openUrl(`${origin}/whole`)).rejects.toMatchObject({ code: 'RANGE_IGNORED' });
  });

  it('names a missing page, an unreachable host, and a part that is too short', async () => {
    await expect(openUrl(`${origin}/missing`)).rejects.toMatchObject({ code: 'FETCH_FAILED' });
    await expect(openUrl('http://127.0.0.1:1/x')).rejects.toMatchObject({ code: 'FETCH_FAILED' });
    const source = await openUrl(`${origin}/short`);
    await expect(source.read(0, 10)).rejects.toMatchObject({ code: 'FILE_SHRANK' });
  });

  it('can be aborted while the server is silent', async () => {
    const source = await openUrl(`${origin}/slow`);
    const reading = source.read(5, 10, AbortSignal.timeout(50));
    await expect(reading).rejects.toMatchObject({ name: 'TimeoutError' });
  });
});
