import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type FetchPolicy, publicFetcher } from '../../lib/server/fetch_public';

const never = new AbortController().signal;
const LIMITS = { maxBytes: 1000, timeoutMs: 2000, redirects: 3 };
/** The servers of these tests are at 127.0.0.1, which stands for the public internet here. */
const PUBLIC: Partial<FetchPolicy> = { allows: (address) => address === '127.0.0.1' };

const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** A real server; returns its port. */
async function serve(listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function get(address: string, policy: Partial<FetchPolicy> = PUBLIC, signal: AbortSignal = never): Promise<Uint8Array> {
  return publicFetcher({ ...LIMITS, ...policy })(address, signal);
}

const refused = (why: RegExp) => ({ code: 'IMAGE_URL_REFUSED', status: 400, message: expect.stringMatching(why) });

it('gives the bytes, and sends nothing that a client did not ask for', async () => {
  const port = await serve((request, response) => {
    expect(Object.keys(request.headers).sort()).toEqual(['accept', 'accept-encoding', 'connection', 'host', 'user-agent']);
    response.end(Buffer.from([1, 2, 3]));
  });
  expect(Array.from(await get(`http://127.0.0.1:${port}/a.png`))).toEqual([1, 2, 3]);
});

it.each([
  'http://127.0.0.1/',
  'http://localhost/',
  'http://127.1/',
  'http://2130706433/',
  'http://0x7f000001/',
  'http://0177.0.0.1/',
  'http://0/',
  'http://[::1]/',
  'http://[::ffff:127.0.0.1]/',
  'http://[::ffff:7f00:1]/',
  'http://169.254.169.254/latest/meta-data/',
  'https://192.168.1.1/',
  'http://[fd00::1]/',
])('%s is refused without a connection', async (address) => {
  await expect(get(address, {})).rejects.toMatchObject(refused(/not a public host/));
});

it('a name is refused when any of its addresses is private', async () => {
  const resolve = async () => ['93.184.215.14', '10.0.0.1'];
  await expect(get('http://pictures.example/', { resolve })).rejects.toMatchObject(refused(/"pictures.example" is not a public host/));
});

it('the connection goes to the address that was checked, whatever the name resolves to later', async () => {
  const port = await serve((request, response) => response.end(request.headers.host));
  const answers = ['127.0.0.1', '127.0.0.2'];
  let asked = 0;
  const resolve = async () => [answers[asked++] as string];
  const bytes = await get(`http://rebinding.example:${port}/`, { ...PUBLIC, resolve });
  expect(Buffer.from(bytes).toString()).toBe(`rebinding.example:${port}`);
  expect(asked).toBe(1);
  await expect(get(`http://rebinding.example:${port}/`, { ...PUBLIC, resolve })).rejects.toMatchObject(refused(/not a public host/));
});

it('redirects are followed, each checked as the first', async () => {
  const port = await serve((request, response) => {
    const target = { '/1': '/2', '/2': 'http://127.0.0.1:1/', '/ok': '/end', '/private': 'http://127.0.0.2/', '/file': 'file:///etc/passwd' }[
      request.url ?? ''
    ];
    if (target) response.writeHead(302, { location: target }).end();
    else if (request.url === '/loop') response.writeHead(307, { location: '/loop' }).end();
    else response.end('end');
  });
  const at = (path: string) => get(`http://127.0.0.1:${port}${path}`);
  expect(Buffer.from(await at('/ok')).toString()).toBe('end');
  await expect(at('/private')).rejects.toMatchObject(refused(/"127\.0\.0\.2" is not a public host/));
  await expect(at('/file')).rejects.toMatchObject(refused(/scheme is "file:"/));
  await expect(at('/loop')).rejects.toMatchObject(refused(/redirected more than 3 times/));
  await expect(at('/1')).rejects.toMatchObject(refused(/connection failed \(ECONNREFUSED\)/));
});

it.each([
  ['ftp://example.com/a.png', /scheme is "ftp:"/],
  ['http://user:secret@127.0.0.1/', /user name or password/],
  ['http://', /no address/],
  ['cat.png', /no address/],
])('%s is refused', async (address, why) => {
  await expect(get(address)).rejects.toMatchObject(refused(why));
});

it('size, time, status and a cut connection are errors, and the connection does not stay', async () => {
  let open = 0;
  const port = await serve((request, response) => {
    open++;
    response.on('close', () => {
      open--;
    });
    if (request.url === '/missing') response.writeHead(404).end();
    if (request.url === '/endless') {
      const timer = setInterval(() => response.write(Buffer.alloc(300)), 5);
      response.on('close', () => clearInterval(timer));
    }
    if (request.url === '/cut') {
      response.writeHead(200, { 'content-length': 500 });
      response.write('half', () => request.socket.destroy());
    }
    // any other: silence
  });
  const at = (path: string, policy: Partial<FetchPolicy> = {}) => get(`http://127.0.0.1:${port}${path}`, { ...PUBLIC, ...policy });
  await expect(at('/missing')).rejects.toMatchObject(refused(/answered 404/));
  await expect(at('/endless')).rejects.toMatchObject(refused(/larger than 1000 bytes/));
  await expect(at('/cut')).rejects.toMatchObject(refused(/cut/));
  await expect(at('/silence', { timeoutMs: 100 })).rejects.toMatchObject(refused(/more than 0.1 seconds/));
  const slowNames: Partial<FetchPolicy> = { timeoutMs: 100, resolve: () => new Promise(() => {}) };
  await expect(get('http://slow.example/', slowNames)).rejects.toMatchObject(refused(/more than 0.1 seconds/));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(open).toBe(0);
});

it('a client that goes away stops it', async () => {
  const port = await serve(() => {});
  const controller = new AbortController();
  const fetching = get(`http://127.0.0.1:${port}/`, PUBLIC, controller.signal);
  setTimeout(() => controller.abort(new Error('gone')), 50);
  await expect(fetching).rejects.toThrow('gone');
  await expect(get('http://127.0.0.1/', PUBLIC, AbortSignal.abort(new Error('gone before')))).rejects.toThrow('gone before');
});
