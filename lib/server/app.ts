import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { cors } from 'hono/cors';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { Completions } from './completions';
import { CLIENT_GONE_STATUS, ClientGone, errorReply, RequestError } from './errors';
import { checkKey, checkPage, type PageRules } from './guards';
import type { Metrics } from './metrics';
import type { TurnQueue } from './queue';
import { RequestRecord } from './record';

interface Environment {
  readonly Bindings: Partial<HttpBindings>;
  readonly Variables: { record: RequestRecord };
}

export type App = Hono<Environment>;

export interface AppOptions {
  readonly name: string;
  readonly apiKey: string | undefined;
  readonly pages: PageRules;
  readonly log: (line: string) => void;
}

const METHODS: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'POST',
  '/v1/models': 'GET',
  '/healthz': 'GET',
  '/metrics': 'GET',
};

/** The addresses of the server, and what every request passes on its way to them. */
export function makeApp(completions: Completions, queue: TurnQueue, metrics: Metrics, options: AppOptions): App {
  const { name, apiKey, pages, log } = options;
  const created = Math.floor(Date.now() / 1000);
  const model = { id: name, object: 'model', created, owned_by: 'vispruner' };
  const app: App = new Hono<Environment>();

  app.use(async (c, next) => {
    const { path, method } = c.req;
    const record = new RequestRecord({ method, path, route: Object.hasOwn(METHODS, path) ? path : 'other' }, metrics, log);
    c.set('record', record);
    await next();
    c.header('x-request-id', record.id);
    if (queue.ending) c.header('connection', 'close');
    if (!record.streaming) record.end(c.res.status);
  });
  app.use(async (c, next) => {
    if (apiKey === undefined) checkPage(c.req.raw, pages);
    await next();
  });
  if (pages.origins.length > 0) {
    app.use(cors({ origin: [...pages.origins], allowMethods: ['GET', 'POST'], exposeHeaders: ['x-request-id', 'retry-after'], maxAge: 3600 }));
  }
  app.get('/healthz', (c) => (queue.ending ? c.json({ status: 'ending' }, 503) : c.json({ status: 'ok' })));
  app.use(async (c, next) => {
    if (apiKey !== undefined) checkKey(c.req.raw, apiKey);
    await next();
  });

  app.get('/metrics', async (c) => c.body(await metrics.text(), 200, { 'content-type': metrics.contentType }));
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [model] }));
  app.get('/v1/models/:name{.+}', (c) => {
    const asked = c.req.param('name');
    if (asked === name) return c.json(model);
    throw new RequestError('MODEL_UNKNOWN', `There is no model ${JSON.stringify(asked.slice(0, 100))} here. This server has "${name}".`);
  });
  app.post('/v1/chat/completions', (c) => completions.handle(c.req.raw, c.get('record')));

  app.notFound((c) => {
    const { path, method } = c.req;
    const allowed = Object.hasOwn(METHODS, path) ? METHODS[path] : undefined;
    if (allowed !== undefined) throw new RequestError('METHOD_NOT_ALLOWED', `${path} takes ${allowed}, not ${method}.`);
    throw new RequestError('ROUTE_UNKNOWN', `There is nothing at ${path.slice(0, 100)}. There is: ${Object.keys(METHODS).join(', ')}.`);
  });
  app.onError((error, c) => {
    const { status, body, headers } = errorReply(error);
    c.get('record')?.failed(error, status);
    if (error instanceof ClientGone) return c.body(null, CLIENT_GONE_STATUS as ContentfulStatusCode);
    return c.json(body, status as ContentfulStatusCode, headers);
  });
  return app;
}
