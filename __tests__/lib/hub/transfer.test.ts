import { mkdir, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Fault, hashOf, largeFile, refuse, smallFile } from '../../support/fake_hub';
import { COMMIT, CONTENT, PullCase, plainFiles, tree, WEIGHTS, WEIGHTS_HASH } from '../../support/pulls';

type Act = (...request: Parameters<Fault>) => void;

const HALF = CONTENT.length / 2;

let at: PullCase;
beforeEach(async () => {
  at = await PullCase.start();
  at.offer();
});
afterEach(() => at.end());

/** What the host of large files does with the first `times` requests for the weights. */
function fault(times: number, act: Act): void {
  at.fault((seen) => seen.at === 'files', times, act);
}

/** Sends half of the weights, then breaks the connection. */
const cut: Act = (_, response) => {
  response.writeHead(200, { 'Content-Length': CONTENT.length });
  response.write(CONTENT.subarray(0, HALF), () => setTimeout(() => response.destroy(), 50));
};

/** The offsets that the weights were asked for from, undefined for all of them. */
const ranges = () => at.hub.reads(WEIGHTS).flatMap((seen) => (seen.at === 'files' ? [seen.headers.range] : []));

async function expectWhole(): Promise<void> {
  expect((await at.read(WEIGHTS)).equals(CONTENT)).toBe(true);
  expect((await at.blobs()).filter((name) => !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(name))).toEqual([]);
}

/** What an earlier pull left of the weights. */
async function leave(bytes: Uint8Array, name = `${WEIGHTS_HASH}.incomplete`): Promise<void> {
  await mkdir(join(at.folder, 'blobs'), { recursive: true });
  await writeFile(join(at.folder, 'blobs', name), bytes);
}

describe('a file that does not come in one piece', () => {
  it('goes on from where the connection broke', async () => {
    fault(1, cut);
    await at.pull();
    await expectWhole();
    expect(ranges()).toEqual([undefined, `bytes=${HALF}-`]);
  });

  it('goes on as long as it gets further, however often that breaks', async () => {
    fault(4, (seen, response) => {
      const from = Number(/\d+/.exec(seen.headers.range ?? '0')?.[0]);
      const head = { 'Content-Length': CONTENT.length - from, 'Content-Range': `bytes ${from}-${CONTENT.length - 1}/${CONTENT.length}` };
      response.writeHead(from > 0 ? 206 : 200, head);
      response.write(CONTENT.subarray(from, from + 1000), () => setTimeout(() => response.destroy(), 20));
    });
    await at.pull({ retries: 1 });
    await expectWhole();
    expect(ranges()).toEqual([undefined, ...[1000, 2000, 3000, 4000].map((from) => `bytes=${from}-`)]);
  });

  it.each<[string, Act]>([
    ['sends the whole file for a range', (_, response, body) => response.writeHead(200, { 'Content-Length': CONTENT.length }).end(body)],
    [
      'sends another range than it was asked for',
      (_, response, body) => response.writeHead(206, { 'Content-Range': `bytes 0-${CONTENT.length - 1}/${CONTENT.length}` }).end(body),
    ],
    [
      'sends a range of a file of another size',
      (_, response, body) => response.writeHead(206, { 'Content-Range': `bytes ${HALF}-${CONTENT.length}/${CONTENT.length + 1}` }).end(body),
    ],
  ])('is right also from a server that %s', async (_, act) => {
    await leave(CONTENT.subarray(0, HALF));
    fault(1, act);
    await at.pull();
    await expectWhole();
  });

  it.each([
    ['damaged bytes', Buffer.alloc(HALF, 7), 2],
    ['more bytes than the file has', Buffer.alloc(CONTENT.length + 1, 7), 1],
    ['all bytes of it, damaged', Buffer.alloc(CONTENT.length, 7), 1],
    ['all bytes of it', CONTENT, 0],
    ['nothing', Buffer.alloc(0), 1],
  ])('is right where an earlier pull left %s', async (_, bytes, requests) => {
    await leave(bytes);
    await at.pull();
    await expectWhole();
    expect(ranges()).toHaveLength(requests);
  });

  it('leaves alone what another process is writing', async () => {
    await at.pull({ include: ['README.md'] });
    const theirs = `${WEIGHTS_HASH}.00000000-1-00000000.incomplete`;
    await leave(CONTENT.subarray(0, HALF), theirs);
    await at.pull();
    expect((await at.read(WEIGHTS)).equals(CONTENT)).toBe(true);
    expect(ranges()).toEqual([undefined]);
    expect(await at.blobs()).toContain(theirs);
  });

  it('takes over what was not written to for long', async () => {
    const theirs = `${WEIGHTS_HASH}.00000000-1-00000000.incomplete`;
    await leave(CONTENT.subarray(0, HALF), theirs);
    const hourAgo = new Date(Date.now() - 3_600_000);
    await utimes(join(at.folder, 'blobs', theirs), hourAgo, hourAgo);
    await at.pull();
    await expectWhole();
    expect(ranges()).toEqual([`bytes=${HALF}-`]);
  });
});

describe('aborted', () => {
  it('it ends at once with the reason, leaves what came, and the next pull goes on from there', async () => {
    const controller = new AbortController();
    fault(1, (_, response) => {
      response.writeHead(200, { 'Content-Length': CONTENT.length });
      response.write(CONTENT.subarray(0, HALF)); // and no more
    });
    const reason = new Error('enough');
    const pull = at.pull({ signal: controller.signal, progress: ({ bytes }) => bytes >= HALF && controller.abort(reason) });
    await expect(pull).rejects.toBe(reason);
    expect(await at.blobs()).toContain(`${WEIGHTS_HASH}.incomplete`);
    expect(Object.keys(await tree(at.folder)).filter((path) => /^(refs|snapshots)/.test(path))).toEqual([]); // nothing looks whole
    await at.pull();
    await expectWhole();
    expect(ranges()).toEqual([undefined, `bytes=${HALF}-`]);
  });

  it('before anything is asked', async () => {
    await expect(at.pull({ signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    expect(at.hub.seen).toEqual([]);
  });

  it('also while it waits for a server that asked for patience', async () => {
    const controller = new AbortController();
    fault(9, (_, response) => {
      refuse(response, 503, undefined, { 'Retry-After': '250' });
      setTimeout(() => controller.abort(new Error('enough')), 100);
    });
    const start = Date.now();
    await expect(at.pull({ signal: controller.signal })).rejects.toThrow('enough');
    expect(Date.now() - start).toBeLessThan(5000);
  });
});

describe('contents that are not what the hub lists', () => {
  it.each([
    ['a large file', { [WEIGHTS]: { ...largeFile(CONTENT), listed: { hash: 'a'.repeat(64) } } }],
    ['a small file', { 'config.json': { ...smallFile('{}'), listed: { hash: 'b'.repeat(40) } } }],
  ])('%s of another hash is refused and removed', async (_, files) => {
    at.offer({ ...plainFiles(), ...files });
    const failure = await at.failure();
    expect(failure).toEqual({ code: 'HUB_CHECKSUM', message: expect.stringContaining(Object.keys(files)[0] ?? '') });
    const left = Object.keys(await tree(at.folder));
    expect(left.filter((path) => /^(refs|snapshots)|aaaa|bbbb/.test(path))).toEqual([]);
  });

  it.each([
    ['fewer', CONTENT.length + 1],
    ['more', CONTENT.length - 1],
  ])('a file with %s bytes than listed', async (_, size) => {
    at.offer({ ...plainFiles(), [WEIGHTS]: { ...largeFile(CONTENT), listed: { size } } });
    expect(await at.failure()).toEqual({ code: 'HUB_WRONG_SIZE', message: expect.stringContaining(String(size)) });
    expect((await at.blobs()).filter((name) => name.startsWith(WEIGHTS_HASH))).toEqual([]);
  });
});

it('a file that fails ends the others, at whatever moment of theirs', async () => {
  for (let round = 0; round < 20; round++) {
    at.offer({ ...plainFiles(), 'config.json': { ...smallFile('{}'), listed: { hash: 'b'.repeat(40) } } });
    expect((await at.failure()).code).toBe('HUB_CHECKSUM');
    await rm(at.folder, { recursive: true });
  }
}, 30_000);

describe('two pulls at once', () => {
  it('both end with the whole model, and leave nothing else', async () => {
    const reports = await Promise.all([at.pull(), at.pull(), at.pull()]);
    for (const { files } of reports) expect(files).toHaveLength(2);
    await expectWhole();
    expect(Object.keys(await tree(at.folder)).sort()).toEqual(
      [
        ...[WEIGHTS_HASH, hashOf(smallFile('{"model_type":"llava"}'))].map((hash) => `blobs/${hash}`),
        ...['config.json', WEIGHTS].map((path) => `snapshots/${COMMIT}/${path}`),
        'refs/main',
      ].sort(),
    );
  });

  it('one goes on with what an earlier one left, and the other does not disturb it', async () => {
    await leave(CONTENT.subarray(0, HALF));
    await Promise.all([at.pull(), at.pull()]);
    await expectWhole();
    expect(ranges()).toContain(`bytes=${HALF}-`);
  });
});
