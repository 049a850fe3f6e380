import { pullModel } from '../../../lib/hub/pull_node';
import { type FakeModel, largeFile, refuse, type Seen, smallFile } from '../../support/fake_hub';
import { NAME, PullCase, plainFiles, tree, WEIGHTS } from '../../support/pulls';

const TOKEN = 'hf_secretsecret';

let at: PullCase;
beforeEach(async () => {
  at = await PullCase.start();
  at.offer();
});
afterEach(() => at.end());

const anywhere = () => true;
const atFiles = ({ at: host }: Seen) => host === 'files';

describe('the token', () => {
  it('is sent to the hub with every request, and to no other host', async () => {
    at.offer(plainFiles(), { token: TOKEN });
    await at.pull({ token: TOKEN });
    const sent = (host: Seen['at']) => new Set(at.hub.seen.filter((seen) => seen.at === host).map(({ headers }) => headers.authorization));
    expect([...sent('hub')]).toEqual([`Bearer ${TOKEN}`]);
    expect([...sent('files')]).toEqual([undefined]);
  });

  it('is not sent where the hub says the next page of its list is', async () => {
    const other = await PullCase.start();
    try {
      const elsewhere = `${other.hub.endpoint}/api/models/${NAME}/tree/next`;
      at.fault(
        ({ path }) => path.includes('/tree/'),
        1,
        (_, response) => response.writeHead(200, { 'Content-Type': 'application/json', Link: `<${elsewhere}>; rel="next"` }).end('[]'),
      );
      await at.failure({ token: TOKEN });
      expect(other.hub.seen.length).toBeGreaterThan(0);
      for (const { headers } of other.hub.seen) expect(headers.authorization).toBeUndefined();
    } finally {
      await other.end();
    }
  });

  it('stands in no message', async () => {
    at.fault(anywhere, 1, (_, response) => refuse(response, 401, undefined, { 'X-Error-Message': 'no' }));
    expect((await at.failure({ token: TOKEN })).message).not.toContain(TOKEN);
    expect((await at.failure({ token: `${TOKEN} ä` })).message).not.toContain(TOKEN);
  });

  it.each([
    ['a plain address', 'http://files.example/x'],
    ['another protocol', 'file:///etc/passwd'],
    ['no address', 'http://[1'],
  ])('an encrypted connection is not left for %s', async (_, location) => {
    const asked: string[] = [];
    const redirecting: typeof fetch = async (input) => {
      asked.push(String(input));
      return new Response(null, { status: 302, headers: { location } });
    };
    const failure = await at.failure({ endpoint: 'https://hub.example', fetch: redirecting, token: TOKEN });
    expect(failure.code).toBe('HUB_BAD_ANSWER');
    expect(asked.filter((url) => !url.startsWith('https://hub.example/'))).toEqual([]);
  });
});

describe('what the hub refuses is named', () => {
  const restricted = (model: Partial<FakeModel>) => () => at.offer(plainFiles(), { token: TOKEN, ...model });
  const always =
    (status: number, where: (seen: Seen) => boolean = anywhere) =>
    () =>
      at.fault(where, 99, (_, response) => refuse(response, status));
  const contents = ({ path }: Seen) => path.includes('/resolve/');
  it.each<[string, () => void, string | undefined, string, RegExp]>([
    ['a private model without a token', restricted({}), '', 'HUB_REPOSITORY_NOT_FOUND', /acme\/plain.*\(401\).*HF_TOKEN/],
    ['a private model with a token that may not read it', restricted({}), 'hf_other', 'HUB_REPOSITORY_NOT_FOUND', /\(404\).*token must be allowed/],
    ['a gated model without a token', restricted({ gated: true }), '', 'HUB_GATED', /licence.*acme\/plain.*HF_TOKEN/],
    ['a gated model with a token that may not read it', restricted({ gated: true }), 'hf_other', 'HUB_GATED', /use that account's token/],
    ['a token that is none', always(401), 'hf_other', 'HUB_UNAUTHORIZED', /token was refused/],
    ['a model that is not there', () => at.hub.models.clear(), 'hf_other', 'HUB_REPOSITORY_NOT_FOUND', /no such model \(404\)/],
    ['a revision that is not there', () => at.offer(plainFiles(), { references: ['trunk'] }), '', 'HUB_REVISION_NOT_FOUND', /no revision "main"/],
    ['a file that is not there any more', always(404, contents), '', 'HUB_FILE_NOT_FOUND', /config\.json|model\.safetensors/],
    ['what is forbidden', always(403), 'hf_other', 'HUB_FORBIDDEN', /forbidden/],
  ])('%s', async (_, prepare, token, code, message) => {
    prepare();
    expect(await at.failure({ token })).toEqual({ code, message: expect.stringMatching(message) });
    expect(Object.keys(await tree(at.cache)).filter((path) => !path.includes('/blobs/'))).toEqual([]);
  });

  it('and none of it is asked for again', async () => {
    always(403)();
    await at.failure({ retries: 5 });
    expect(at.hub.seen).toHaveLength(1);
  });
});

describe('a hub that is busy', () => {
  it.each([429, 503])('%d: it is asked again after the time that it asked for', async (status) => {
    at.fault(anywhere, 1, (_, response) => refuse(response, status, undefined, { 'Retry-After': '1' }));
    const start = Date.now();
    await at.pull();
    expect(Date.now() - start).toBeGreaterThanOrEqual(990);
    expect((await at.read(WEIGHTS)).length).toBeGreaterThan(0);
  });

  it('may give the time as a date, also for a file', async () => {
    at.fault(atFiles, 1, (_, response) => refuse(response, 503, undefined, { 'Retry-After': new Date(Date.now() - 1000).toUTCString() }));
    await at.pull();
    expect(at.hub.seen.filter(atFiles)).toHaveLength(2);
  });

  it('is given up after so many attempts', async () => {
    at.fault(anywhere, 9, (_, response) => refuse(response, 500, undefined, { 'X-Error-Message': 'out of\u0085 order', 'Retry-After': '0' }));
    expect(await at.failure({ retries: 3 })).toEqual({ code: 'HUB_FAILED', message: expect.stringMatching(/500.*"out of\? order"/) });
    expect(at.hub.seen).toHaveLength(4);
  });

  it('a link to a file that has run out is replaced by a new one', async () => {
    at.fault(atFiles, 1, (_, response) => refuse(response, 403));
    await at.pull();
    expect(at.hub.reads(WEIGHTS).map((seen) => seen.at)).toEqual(['hub', 'files', 'hub', 'files']);
  });
});

describe('a hub that does not answer', () => {
  it('where there is none', async () => {
    const failure = await at.failure({ endpoint: 'http://127.0.0.1:9', retries: 0 });
    expect(failure).toEqual({ code: 'HUB_UNREACHABLE', message: expect.stringContaining('http://127.0.0.1:9') });
  });

  it.each(['hub', 'files'] as const)('a connection without a byte counts as lost: %s', async (host) => {
    at.fault(
      (seen) => seen.at === host,
      9,
      () => {},
    );
    expect(await at.failure({ timeoutMs: 100, retries: 0 })).toEqual({
      code: 'HUB_UNREACHABLE',
      message: expect.stringContaining('no byte came in 0.1 s'),
    });
  });

  it.each([
    ['a page of a login', 'text/html', '<html>Please log in</html>'],
    ['JSON of something else', 'application/json', '{"ok": true}'],
    ['an empty body', 'application/json', ''],
    ['null', 'application/json', 'null'],
  ])('but something else does, with %s', async (_, type, body) => {
    at.fault(anywhere, 99, (_, response) => response.writeHead(200, { 'Content-Type': type }).end(body));
    expect((await at.failure()).code).toBe('HUB_BAD_ANSWER');
  });

  it('or sends it round in circles', async () => {
    at.fault(anywhere, 999, ({ path }, response) => response.writeHead(302, { Location: path }).end());
    expect((await at.failure()).code).toBe('HUB_BAD_ANSWER');
  });
});

describe('names that a server makes up', () => {
  it.each(['../../../evil', '/evil', 'a/../../evil', 'a\\..\\..\\evil', 'C:evil', 'a//b', './evil', 'a\u0000b'])('%j is refused', async (path) => {
    at.offer({ ...plainFiles(), evil: { ...smallFile('x'), listed: { path } } });
    const failure = await at.failure({ include: ['*'] });
    expect([failure.code, await tree(at.cache)]).toEqual(['UNSAFE_FILE_NAME', {}]);
    await at.pull(); // it is not among what a model needs
  });

  it('an index can not name a shard outside of the model', async () => {
    const index = smallFile('{"weight_map": {"a": "../../../evil.safetensors"}}');
    at.offer({
      'config.json': smallFile('{}'),
      'model.safetensors.index.json': index,
      evil: { ...largeFile('x'), listed: { path: '../../../evil.safetensors' } },
    });
    expect((await at.failure()).code).toBe('SHARD_PATH');
  });

  it.each([{ size: -1 }, { size: 1.5 }, { hash: '../../evil' }, { hash: '' }])('a list with %j is refused', async (listed) => {
    at.offer({ ...plainFiles(), [WEIGHTS]: { ...largeFile('x'), listed } });
    expect([(await at.failure()).code, await tree(at.cache)]).toEqual(['HUB_BAD_ANSWER', {}]);
  });

  it('a commit that is none', async () => {
    at.offer(plainFiles(), { commit: '../../evil' });
    expect([(await at.failure()).code, await tree(at.cache)]).toEqual(['HUB_BAD_ANSWER', {}]);
  });
});

describe('what is asked for', () => {
  it.each([
    ['acme', 'BAD_MODEL_NAME'],
    ['acme/a/b', 'BAD_MODEL_NAME'],
    ['../acme', 'BAD_MODEL_NAME'],
    ['acme/a--b', 'BAD_MODEL_NAME'],
    ['acme/plain@', 'BAD_REVISION'],
    ['acme/plain@../main', 'BAD_REVISION'],
    ['acme/plain@a b', 'BAD_REVISION'],
  ])('%s is refused without a request', async (name, code) => {
    await expect(pullModel(name, { endpoint: at.hub.endpoint, cacheDir: at.cache })).rejects.toMatchObject({ code });
    expect(at.hub.seen).toEqual([]);
  });

  it('two revisions at once are refused', async () => {
    await expect(pullModel('acme/plain@v1', { revision: 'v2', cacheDir: at.cache })).rejects.toMatchObject({ code: 'BAD_REVISION' });
  });

  it('an address that is none', async () => {
    expect((await at.failure({ endpoint: 'hub.example' })).code).toBe('BAD_ENDPOINT');
  });

  it.each(['HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'])('nothing where %s asks for no network', async (variable) => {
    process.env[variable] = '1';
    try {
      expect((await at.failure()).code).toBe('HUB_OFFLINE');
      expect(at.hub.seen).toEqual([]);
    } finally {
      delete process.env[variable];
    }
  });
});
