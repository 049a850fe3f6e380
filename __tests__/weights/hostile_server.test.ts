import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { urlDirectory } from '../../weights/byte_directory';
import { openUrl } from '../../weights/byte_source';
import { openCheckpoint } from '../../weights/checkpoint';
import { openSafetensors } from '../../weights/safetensors';
import { assemble } from '../fuzz/safetensors_files';

const MEGABYTE = Buffer.alloc(1e6);
const header = (size: number): Uint8Array => assemble(Buffer.from(`{"t":{"dtype":"U8","shape":[${size}],"data_offsets":[0,${size}]}}`), 0);
const HUGE = 2 ** 45;

/** What a server that lies does with a request for the bytes from `first` to `last`. */
const lies: Record<string, (response: ServerResponse, first: number, last: number) => void> = {
  /** Says that the file has terabytes, and sends a header that agrees. */
  '/huge': (response, first, last) => {
    const file = header(HUGE);
    response.writeHead(206, { 'Content-Range': `bytes ${first}-${last}/${file.length + HUGE}` });
    response.end(file.subarray(first, last + 1));
  },
  '/uncountable': (response) => response.writeHead(206, { 'Content-Range': `bytes 0-0/${'9'.repeat(400)}` }).end('x'),
  '/endless': (response) => {
    response.writeHead(206, { 'Content-Range': 'bytes 0-0/1000000000' });
    const more = (): void => {
      if (response.destroyed) return;
      sent += MEGABYTE.length;
      if (response.write(MEGABYTE)) setImmediate(more);
      else response.once('drain', more);
    };
    more();
  },
  '/packed': (response) => response.writeHead(206, { 'Content-Range': 'bytes 0-0/1000', 'Content-Encoding': 'gzip' }).end(bomb),
  '/longer': (response, first, last) => response.writeHead(206, { 'Content-Range': `bytes ${first}-${last + 1}/1000` }).end('xy'),
  '/broken': (response) => {
    response.writeHead(206, { 'Content-Range': 'bytes 0-0/1000', 'Content-Length': 1 }).flushHeaders();
    setTimeout(() => response.destroy(), 20);
  },
};

let server: Server;
let origin: string;
let sent = 0;
let index = Buffer.alloc(0);
const requested: string[] = [];
const bomb = gzipSync(Buffer.alloc(200e6));

beforeAll(async () => {
  server = createServer((request, response) => {
    requested.push(request.url ?? '');
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const lie = lies[request.url ?? ''];
    if (lie && request.method === 'GET') lie(response, Number(first), Number(last));
    else if (request.url === '/org/model/model.safetensors.index.json') {
      response.writeHead(206, { 'Content-Range': `bytes ${first}-${last}/${index.length}` }).end(index.subarray(Number(first), Number(last) + 1));
    } else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

it('a file of terabytes that is not there sets no memory aside, and ends as one that was cut', async () => {
  const before = process.memoryUsage().arrayBuffers;
  const file = await openSafetensors(await openUrl(`${origin}/huge`));
  await expect(file.bytes('t')).rejects.toMatchObject({ code: 'FILE_SHRANK' });
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(5e6);
});

it('an answer without end is left when it has more bytes than were asked for', async () => {
  await expect(openUrl(`${origin}/endless`)).rejects.toMatchObject({ code: 'FETCH_FAILED' });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const then = sent;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(sent).toBe(then);
  expect(sent).toBeLessThan(50e6); // what the sockets hold
});

it('a small answer that unpacks to 200 MB is left likewise', async () => {
  expect(bomb.length).toBeLessThan(300_000);
  const before = process.memoryUsage().rss;
  await expect(openUrl(`${origin}/packed`)).rejects.toMatchObject({ code: 'FETCH_FAILED' });
  expect(process.memoryUsage().rss - before).toBeLessThan(100e6);
});

it.each(['uncountable', 'longer', 'broken'])('an answer that is %s has a named error', async (path) => {
  await expect(openUrl(`${origin}/${path}`)).rejects.toMatchObject({ name: 'CheckpointError', code: 'FETCH_FAILED' });
});

it('an index does not lead to another address: what means something in a URL is part of the name', async () => {
  for (const name of ['%2e%2e/%2e%2e/x', 'a?b=c', 'a#b', '..%2fx', 'a b', 'ü', ';x', '%00']) {
    index = Buffer.from(JSON.stringify({ weight_map: { t: name } }));
    await expect(openCheckpoint(urlDirectory(`${origin}/org/model`))).rejects.toMatchObject({ code: 'SHARD_MISSING' });
    const [path] = requested.slice(-1);
    expect(path?.startsWith('/org/model/')).toBe(true);
    expect(decodeURIComponent((path as string).slice('/org/model/'.length))).toBe(name);
  }
});
