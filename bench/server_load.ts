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

/** Sends `requests` over `connections` by autocannon, and meanwhile `aborted` from clients that go away after some milliseconds. */
export async function load(url: string, requests: readonly LoadRequest[], aborted: readonly LoadRequest[], connections: number): Promise<Load> {
  const observed: Observed[] = [];
  const begun = performance.now();
  const [result, gone] = await Promise.all([cannon(url, requests, connections, observed), abortAll(url, aborted, observed)]);
  return { observed, errors: result.errors + gone, seconds: (performance.now() - begun) / 1000 };
}

/** Each connection has a part of the requests of its own, and sends them one after another. */
async function cannon(url: string, requests: readonly LoadRequest[], connections: number, observed: Observed[]): Promise<autocannon.Result> {
  const each = Math.ceil(requests.length / connections);
  let connection = 0;
  return autocannon({
    url: `${url}${PATH}`,
    connections: Math.ceil(requests.length / each),
    amount: requests.length,
    timeout: 120,
    method: 'POST',
    headers: HEADERS,
    setupClient: (client) => {
      const own = requests.slice(each * connection, each * ++connection);
      client.setRequests(own.map((request) => watched(request, observed)));
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
    setupRequest: (request) => {
      begun = performance.now();
      return request;
    },
    onResponse: (status, reply) => {
      observed.push({ kind, verdict: judge(status, reply), milliseconds: performance.now() - begun });
    },
  };
}

/** One after another, each given up at another moment. @returns how many failed otherwise */
async function abortAll(url: string, requests: readonly LoadRequest[], observed: Observed[]): Promise<number> {
  let errors = 0;
  for (const [i, { body, judge }] of requests.entries()) {
    const begun = performance.now();
    const signal = AbortSignal.timeout((i * 37) % 400);
    try {
      const response = await fetch(`${url}${PATH}`, { method: 'POST', headers: HEADERS, body, signal });
      observed.push({ kind: 'aborted', verdict: judge(response.status, await response.text()), milliseconds: performance.now() - begun });
    } catch {
      if (!signal.aborted) errors++;
      observed.push({ kind: 'aborted', verdict: 'aborted', milliseconds: performance.now() - begun });
    }
  }
  return errors;
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
