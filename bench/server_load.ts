import { request } from 'node:http';
import autocannon from 'autocannon';
import type { Kind, LoadRequest, Verdict } from './server_requests';

export interface Observed {
  readonly kind: Kind;
  readonly verdict: Verdict;
  readonly milliseconds: number;
}

export interface Load {
  readonly observed: readonly Observed[];
  /** Connections that failed without a reply. */
  readonly errors: number;
  readonly seconds: number;
}

const PATH = '/v1/chat/completions';
const HEADERS = { 'content-type': 'application/json' };

/**
 * Sends `requests` over `connections` by autocannon, and meanwhile, one after another, those of clients that are not well-behaved: bodies that are huge, and
 * requests that are given up at some moment. (Autocannon takes replies for those of other requests once a server has closed a connection, as it may do
 * after a huge body.)
 */
export async function load(url: string, requests: readonly LoadRequest[], others: readonly LoadRequest[], connections: number): Promise<Load> {
  const observed: Observed[] = [];
  const begun = performance.now();
  const [result, failed] = await Promise.all([cannon(url, requests, connections, observed), sendOthers(url, others, observed)]);
  return { observed, errors: result.errors + failed, seconds: (performance.now() - begun) / 1000 };
}

/** Each connection has a part of the requests of its own (as autocannon divides their number), and sends them one after another. */
async function cannon(url: string, requests: readonly LoadRequest[], connections: number, observed: Observed[]): Promise<autocannon.Result> {
  let connection = 0;
  return autocannon({
    url: `${url}${PATH}`,
    connections,
    amount: requests.length,
    timeout: 120,
    method: 'POST',
    headers: HEADERS,
    setupClient: (client) => {
      const own = connection++;
      client.setRequests(requests.filter((_, i) => i % connections === own).map((request) => watched(request, observed)));
    },
  });
}

function watched({ kind, body, judge }: LoadRequest, observed: Observed[]): autocannon.Request {
  let begun = 0;
  return {
    method: 'POST',
    path: PATH,
    headers: HEADERS,
    body,
    setupRequest: (own) => {
      begun = performance.now();
      return own;
    },
    onResponse: (status, reply) => {
      observed.push({ kind, verdict: judge(status, reply), milliseconds: performance.now() - begun });
    },
  };
}

/** @returns how many failed otherwise than they had to */
async function sendOthers(url: string, requests: readonly LoadRequest[], observed: Observed[]): Promise<number> {
  let errors = 0;
  for (const [i, { kind, body, judge }] of requests.entries()) {
    const begun = performance.now();
    const signal = kind === 'huge' ? undefined : AbortSignal.timeout((i * 37) % 400);
    const note = (verdict: Verdict) => observed.push({ kind: kind === 'huge' ? kind : 'aborted', verdict, milliseconds: performance.now() - begun });
    try {
      note(judge(...(await post(`${url}${PATH}`, body, signal))));
    } catch {
      // A server may close the connection on whoever goes on sending after the reply.
      if (kind !== 'huge' && !signal?.aborted) errors++;
      note(kind === 'huge' ? 'refused' : 'aborted');
    }
  }
  return errors;
}

/** On a connection of its own: a server may close one that a huge body came on, and whoever used it next would be cut off. */
function post(address: string, body: string, signal: AbortSignal | undefined): Promise<[status: number, reply: string]> {
  return new Promise((resolve, reject) => {
    const asking = request(address, { method: 'POST', headers: HEADERS, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve([response.statusCode ?? 0, Buffer.concat(chunks).toString()]));
      response.on('error', reject);
    });
    asking.on('error', reject);
    asking.end(body);
  });
}

/** `count` of them in turn, in an order that mixes them and is the same each time. */
export function mixed(requests: readonly LoadRequest[], count: number): LoadRequest[] {
  const all = Array.from({ length: count }, (_, i) => requests[i % requests.length] as LoadRequest);
  let state = 7;
  for (let i = all.length - 1; i > 0; i--) {
    state = (state * 48271) % 0x7fffffff; // Park and Miller's generator
    const j = state % (i + 1);
    [all[i], all[j]] = [all[j] as LoadRequest, all[i] as LoadRequest];
  }
  return all;
}
