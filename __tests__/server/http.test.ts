import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { METHODS, type VisionLanguageModel } from '../../lib/index';
import { createServer, type ListeningAt, ServerError } from '../../lib/server';
import { about, dataUri, imageFile, loadTiny, metric, NAME, QUESTION, type Started, startServer, until } from './support';

const asked = JSON.stringify({ model: NAME, messages: [about(dataUri('stars.png'), QUESTION)] });
const JSON_HEADERS = { 'content-type': 'application/json' };
const LIMITS = { maxBodyBytes: 200_000, headTimeout: 1000, requestTimeout: 2000 };

let model: VisionLanguageModel;
let started: Started;
let at: ListeningAt;

beforeAll(async () => {
  model = await loadTiny();
  started = await startServer(model, LIMITS);
  at = started.at;
});

afterAll(async () => {
  await started.server.close();
  model.dispose();
});

/** Whatever was sent before, the server still answers. */
afterEach(async () => {
  expect((await fetch(`${at.url}/healthz`)).status).toBe(200);
});

interface Reply {
  readonly status: number | undefined;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

/** `fetch` would not send these headers. */
function send(path: string, headers: Record<string, string>, body?: string, method: string = body === undefined ? 'GET' : 'POST'): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${at.url}${path}`, { method, headers, agent: false }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: text }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Bytes on a connection of their own; resolves with all that comes back once the server closes it. */
function raw(...pieces: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(at.port, at.host);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('close', () => resolve(text));
    socket.on('error', reject);
    for (const piece of pieces) socket.write(piece);
  });
}

async function refusal(reply: Promise<Reply>): Promise<{ status: number | undefined; code: string }> {
  const { status, body } = await reply;
  return { status, code: (JSON.parse(body) as { error: { code: string } }).error.code };
}

const complete = (body: string, headers: Record<string, string> = JSON_HEADERS) => send('/v1/chat/completions', headers, body);

it.each([
  ['not JSON', '{"model": ', 'BODY_NOT_JSON'],
  ['nothing', '', 'BODY_NOT_JSON'],
  ['a text', '"hello"', 'FIELD_INVALID'],
  ['null', 'null', 'FIELD_INVALID'],
  ['a body nested without end', '['.repeat(190_000), 'BODY_NOT_JSON'],
  [
    'a field nested without end',
    `{"model":"m","messages":[{"role":"user","content":"x"}],"tools":${'['.repeat(20_000)}${']'.repeat(20_000)}}`,
    'FIELD_INVALID',
  ],
  ['a message nested without end', `{"model":"m","messages":${'[{"a":'.repeat(7_000)}1${'}]'.repeat(7_000)}}`, 'FIELD_INVALID'],
  ['a prototype', `{"__proto__": {"model": "${NAME}"}, "messages": []}`, 'FIELD_INVALID'],
  [
    'a base64 text that would take an expression quadratic time',
    JSON.stringify({ model: NAME, messages: [about(`data:;base64,${' '.repeat(190_000)}!`, 'x')] }),
    'DATA_URI_INVALID',
  ],
])('%s is refused with 400', async (_, body, code) => {
  const begun = performance.now();
  expect(await refusal(complete(body))).toEqual({ status: 400, code });
  expect(performance.now() - begun).toBeLessThan(1000);
});

it('a body that is no UTF-8 is refused', async () => {
  const response = await fetch(`${at.url}/v1/chat/completions`, { method: 'POST', headers: JSON_HEADERS, body: Buffer.from([0x7b, 0xff, 0x7d]) });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { code: 'BODY_NOT_JSON', message: expect.stringMatching(/UTF-8/) } });
});

it('a body that is too large is refused with 413, by its declared size and by what comes', async () => {
  const large = JSON.stringify({ model: NAME, messages: [{ role: 'user', content: 'x'.repeat(300_000) }] });
  expect(await refusal(complete(large))).toEqual({ status: 413, code: 'BODY_TOO_LARGE' });
  const chunked = { ...JSON_HEADERS, 'transfer-encoding': 'chunked' };
  expect(await refusal(complete(large, chunked))).toEqual({ status: 413, code: 'BODY_TOO_LARGE' });
});

it('a body that does not say that it is JSON, as a form of a web page, is refused with 415', async () => {
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp']) {
    expect(await refusal(complete(asked, { 'content-type': type }))).toEqual({ status: 415, code: 'CONTENT_TYPE' });
  }
  expect((await complete(asked, { 'content-type': 'application/json; charset=utf-8' })).status).toBe(200);
});

it.each([
  ['/nothing', 'GET', 404, 'ROUTE_UNKNOWN'],
  ['/v1/chat/completions', 'GET', 405, 'METHOD_NOT_ALLOWED'],
  ['/v1/models', 'DELETE', 405, 'METHOD_NOT_ALLOWED'],
  ['/v1/models/%2e%2e%2fhealthz', 'GET', 404, 'MODEL_UNKNOWN'],
])('%s with %s', async (path, method, status, code) => {
  expect(await refusal(send(path, {}, undefined, method))).toEqual({ status, code });
});

it.each([
  ['evil.example', 403],
  ['127.0.0.1.evil.example:80', 403],
  ['192.168.0.7', 403],
  ['localhost', 200],
  ['localhost:1234', 200],
  ['127.0.0.1', 200],
  ['[::1]:80', 200],
])('without a key, on loopback, a request to the host "%s" gets %d: a name that a web page had resolve to here is not ours', async (host, status) => {
  const reply = await send('/v1/models', { host });
  expect(reply.status).toBe(status);
  if (status === 403) expect(JSON.parse(reply.body)).toMatchObject({ error: { code: 'HOST_REFUSED', type: 'permission_error' } });
});

it('a page of another origin is refused, with a simple request too', async () => {
  expect(await refusal(send('/v1/models', { origin: 'https://evil.example' }))).toEqual({ status: 403, code: 'ORIGIN_REFUSED' });
  expect(await refusal(complete(asked, { ...JSON_HEADERS, origin: 'null' }))).toEqual({ status: 403, code: 'ORIGIN_REFUSED' });
  const same = await send('/v1/models', { origin: `http://127.0.0.1:${at.port}` });
  expect({ status: same.status, allowed: same.headers['access-control-allow-origin'] }).toEqual({ status: 200, allowed: undefined });
});

it('a page of an allowed origin may ask and read', async () => {
  const origin = 'https://friend.example';
  const open = await startServer(model, { cors: [origin] });
  try {
    const preflight = await fetch(`${open.at.url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type,authorization' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe(origin);
    expect(preflight.headers.get('access-control-allow-headers')).toBe('content-type,authorization');
    const bad = await fetch(`${open.at.url}/v1/chat/completions`, { method: 'POST', headers: { ...JSON_HEADERS, origin }, body: '{}' });
    expect(bad.status).toBe(400);
    expect(bad.headers.get('access-control-allow-origin')).toBe(origin); // or the page could not read what was wrong
    expect((await fetch(`${open.at.url}/v1/models`, { headers: { origin: 'https://evil.example' } })).status).toBe(403);
  } finally {
    await open.server.close();
  }
});

it.each([
  ['no HTTP', 'hello\r\n\r\n', /^HTTP\/1\.1 400/],
  ['another protocol', '\x16\x03\x01\x02\x00\x01', /^HTTP\/1\.1 400/],
  ['two lengths', 'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello', /^HTTP\/1\.1 400/],
  [
    'a length and chunks',
    'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    /^HTTP\/1\.1 400/,
  ],
  ['no host', 'GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 400/],
  ['a host that is none', 'GET /v1/models HTTP/1.1\r\nHost: a b/c\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 4/],
  ['headers without end', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1\.1 431/],
])('%s gets an error and a closed connection', async (_, text, expected) => {
  expect(await raw(text)).toMatch(expected);
});

it('a head, or a body, that does not come to an end is not waited for', async () => {
  const begun = performance.now();
  const [head, body] = await Promise.all([
    raw('GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Slow: '),
    raw(`POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"mod`),
  ]);
  expect(head).toMatch(/^HTTP\/1\.1 408/);
  expect(body).toMatch(/^HTTP\/1\.1 408/);
  expect(performance.now() - begun).toBeLessThan(8000);
  await until(() => started.lines.some((line) => line.includes('POST /v1/chat/completions 499')));
});

it('a connection that is broken off in the middle of a body leaves nothing', async () => {
  const aborted = 'vispruner_requests_total{path="/v1/chat/completions",outcome="aborted"}';
  const before = await metric(at, aborted);
  const socket = connect(at.port, at.host);
  socket.write(`POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"mod`);
  await new Promise((resolve) => setTimeout(resolve, 100));
  socket.destroy();
  await until(async () => (await metric(at, aborted)) === before + 1);
});

it('images by address come through what the server was given to fetch them with', async () => {
  const fetched: string[] = [];
  const allowUrl = async (address: string) => {
    fetched.push(address);
    return imageFile('stars.png');
  };
  const own = await startServer(model, { allowUrl });
  try {
    const messages = [about('https://pictures.example/stars.png', QUESTION)];
    const byAddress = await own.client().chat.completions.create({ model: NAME, messages });
    const byBytes = await own.client().chat.completions.create({ model: NAME, messages: [about(dataUri('stars.png'), QUESTION)] });
    expect(fetched).toEqual(['https://pictures.example/stars.png']);
    expect(byAddress.choices).toEqual(byBytes.choices);
  } finally {
    await own.server.close();
  }
});

it('with --allow-url, addresses of this machine and its networks are refused', async () => {
  const own = await startServer(model, { allowUrl: true });
  try {
    for (const address of [`${at.url}/metrics`, 'http://localhost/x.png', 'http://169.254.169.254/latest/meta-data/']) {
      const asking = own.client().chat.completions.create({ model: NAME, messages: [about(address, QUESTION)] });
      await expect(asking).rejects.toMatchObject({ status: 400, code: 'IMAGE_URL_REFUSED', message: expect.stringMatching(/not a public host/) });
    }
  } finally {
    await own.server.close();
  }
});

it('an image that declares more pixels than the limit is refused before it is decoded, and too many images before any', async () => {
  const own = await startServer(model, { maxPixels: 1000, maxImages: 1 });
  try {
    const image = about(dataUri('stars.png'), QUESTION);
    const large = own.client().chat.completions.create({ model: NAME, messages: [image] });
    await expect(large).rejects.toMatchObject({ status: 400, code: 'IMAGE_TOO_LARGE' });
    const many = own.client().chat.completions.create({ model: NAME, messages: [image, image] });
    await expect(many).rejects.toMatchObject({ status: 400, code: 'TOO_MANY_IMAGES' });
  } finally {
    await own.server.close();
  }
});

it('is mounted in another server by its fetch', async () => {
  const server = createServer(model, { name: NAME });
  const response = await server.fetch(new Request('http://localhost/v1/chat/completions', { method: 'POST', headers: JSON_HEADERS, body: asked }));
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ object: 'chat.completion' });
  await server.close();
});

it('metrics are in the text format of Prometheus, and count tokens before and after pruning', async () => {
  const own = await startServer(model, { prune: METHODS.vispruner.example });
  try {
    await own.client().chat.completions.create({ model: NAME, messages: [about(dataUri('stars.png'), QUESTION)] });
    const response = await fetch(`${own.at.url}/metrics`);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    for (const line of text.split('\n')) expect(line).toMatch(/^(#.*|[a-z_]+(\{.*\})? -?[\d.e+-]+|)$/);
    expect(await metric(own.at, 'vispruner_visual_tokens_total{stage="before"}')).toBe(256);
    expect(await metric(own.at, 'vispruner_visual_tokens_total{stage="after"}')).toBeLessThan(256);
    expect(await metric(own.at, 'vispruner_first_token_seconds_count')).toBe(1);
    expect(await metric(own.at, 'vispruner_request_duration_seconds_count{outcome="answered"}')).toBe(1);
    expect(await metric(own.at, 'process_resident_memory_bytes')).toBeGreaterThan(1e6);
    expect(await metric(own.at, 'tfjs_tensors')).toBeGreaterThan(0);
  } finally {
    await own.server.close();
  }
});

it('an address that is taken, and an option out of range, are named errors', async () => {
  const second = createServer(model, { name: NAME });
  await expect(second.listen(at.port)).rejects.toMatchObject({ code: 'CANNOT_LISTEN', message: expect.stringContaining(String(at.port)) });
  expect(() => createServer(model, { name: NAME, queue: -1 })).toThrow(ServerError);
  expect(() => createServer(model, { name: NAME, apiKey: '' })).toThrow(/key is empty/);
  expect(() => createServer(model, { name: NAME, prune: { method: 'vispruner', tokens: 0 } })).toThrow(
    expect.objectContaining({ code: 'TOKENS_INVALID' }),
  );
});

describe('closing', () => {
  const slow = {
    model: NAME,
    messages: ['stars', 'crosses', 'letter_a', 'letter_e', 'stars', 'crosses'].map((name) => about(dataUri(`${name}.png`), QUESTION)),
  };

  it('finishes the running answer, refuses those that wait, and takes no more', async () => {
    const own = await startServer(model);
    const running = own.client().chat.completions.create({ ...slow, stream: true, stream_options: { include_usage: true } });
    await until(async () => (await metric(own.at, 'vispruner_requests_in_flight')) === 1);
    const waiting = own.client().chat.completions.create(slow);
    const refused = expect(waiting).rejects.toMatchObject({ status: 503, code: 'SERVER_ENDING' });
    await until(async () => (await metric(own.at, 'vispruner_queue_length')) === 1);
    const closing = own.server.close();
    await refused;
    await expect(own.client().models.list()).rejects.toMatchObject({ message: 'Connection error.' });
    let last: unknown;
    for await (const chunk of await running) last = chunk;
    expect(last).toMatchObject({ choices: [], usage: { completion_tokens: expect.any(Number) } });
    expect(await closing).toBe(true);
  });

  it('does not wait for a request that has not arrived whole', async () => {
    const own = await startServer(model);
    const socket = connect(own.at.port, own.at.host);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.write('POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"mod');
    await new Promise((resolve) => setTimeout(resolve, 100));
    const begun = performance.now();
    expect(await own.server.close()).toBe(true);
    expect(performance.now() - begun).toBeLessThan(2000);
    expect(text).toMatch(/^HTTP\/1\.1 503.*SERVER_ENDING/s);
  });

  it('cuts an answer off that takes longer than it was given', async () => {
    const own = await startServer(model);
    const running = own.client().chat.completions.create(slow);
    const cut = expect(running).rejects.toMatchObject({ status: 503, code: 'SERVER_ENDING' });
    await until(async () => (await metric(own.at, 'vispruner_requests_in_flight')) === 1);
    expect(await own.server.close(0)).toBe(false);
    await cut;
  });
});
