import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { VisionLanguageModel } from '../model';
import { isLoopback } from './addresses';
import { Answerer } from './answerer';
import { makeApp } from './app';
import { Completions } from './completions';
import { RequestError, ServerError } from './errors';
import { Metrics } from './metrics';
import { checkedOptions, type ServerOptions } from './options';
import { ending, TurnQueue } from './queue';

/** Bodies are read at once as many as may wait, and a few more where few may. */
const LEAST_READING = 8;
const MOST_CONNECTIONS = 500;
/** How often Node looks for requests that take too long to arrive. */
const CHECK_INTERVAL_MS = 1000;
const CLOSING_INTERVAL_MS = 50;

export interface ListeningAt {
  readonly host: string;
  readonly port: number;
  readonly url: string;
}

export interface ModelServer {
  /** Starts to take requests. 0, the default, takes any free port. @throws ServerError `CANNOT_LISTEN` */
  listen(port?: number): Promise<ListeningAt>;
  /** One request, without the network: to mount the server in another. */
  fetch(request: Request): Promise<Response>;
  /**
   * Takes no more requests, refuses those that wait, finishes the one that is being answered, and frees what was kept; the model stays.
   * @param graceMs after which what is not done is cut off
   * @returns whether all was finished
   */
  close(graceMs?: number): Promise<boolean>;
}

/**
 * An OpenAI-compatible server in front of a model.
 * @throws ServerError `SERVER_OPTION`; PruneError; ConfigError `NO_TOKENIZER`
 */
export function createServer(model: VisionLanguageModel, options: ServerOptions): ModelServer {
  const checked = checkedOptions(options);
  const { name, host, apiKey, cors, log, maxBodyBytes, maxImages, maxPixels, fetchImage, headTimeout, requestTimeout } = checked;
  const queue = new TurnQueue(checked.queue);
  const answerer = new Answerer(model, { prune: checked.prune, seed: checked.seed, conversations: checked.conversations, maxPixels });
  const limits = { name, maxBodyBytes, maxImages, maxReading: Math.max(LEAST_READING, checked.queue), fetchImage };
  const completions = new Completions(answerer, queue, limits);
  const app = makeApp(completions, queue, new Metrics(queue), { name, apiKey, log, pages: { loopback: isLoopback(host), origins: cors } });
  const server = createAdaptorServer({
    fetch: app.fetch,
    overrideGlobalObjects: false,
    serverOptions: { headersTimeout: headTimeout, requestTimeout, connectionsCheckingInterval: CHECK_INTERVAL_MS },
  }) as Server;
  server.maxConnections = MOST_CONNECTIONS;

  return {
    listen: (port = 0) => listen(server, host, port),
    fetch: async (request) => app.fetch(request),
    async close(graceMs = 30_000) {
      queue.close();
      completions.abortReading(ending());
      const closed = server.listening ? new Promise<void>((resolve) => server.close(() => resolve())) : Promise.resolve();
      const deadline = performance.now() + graceMs;
      while (completions.active > 0 && performance.now() < deadline) await pause();
      const finished = completions.active === 0;
      if (!finished) completions.abort(new RequestError('SERVER_ENDING', 'The server is ending and could not wait for this answer.'));
      while (completions.active > 0) await pause();
      await hangUp(server, closed);
      answerer.dispose();
      return finished;
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<ListeningAt> {
  return new Promise((resolve, reject) => {
    const fail = (cause: NodeJS.ErrnoException) =>
      reject(
        new ServerError('CANNOT_LISTEN', `The server can't listen at ${host}, port ${port}: ${cause.message}. Give another --port or --host.`, {
          cause,
        }),
      );
    server.once('error', fail);
    server.listen(port, host, () => {
      server.off('error', fail);
      const { address, family, port: taken } = server.address() as AddressInfo;
      resolve({ host: address, port: taken, url: `http://${family === 'IPv6' ? `[${address}]` : address}:${taken}` });
    });
  });
}

/** Closes connections as what was written to them is sent; those whose client does not read are cut after a second. */
async function hangUp(server: Server, closed: Promise<void>): Promise<void> {
  const cut = setTimeout(() => server.closeAllConnections(), 1000);
  const idle = setInterval(() => server.closeIdleConnections(), CLOSING_INTERVAL_MS);
  await closed;
  clearTimeout(cut);
  clearInterval(idle);
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, CLOSING_INTERVAL_MS));
}
