import { HubError } from '../../layers/errors';
import { abortable } from '../pacer';
import { Transient } from './retry';

/** What every request to a hub needs. */
export interface HubAccess {
  /** The hub's address, without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly fetch: typeof fetch;
  /** Without a byte for so long, a connection counts as lost. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface HubResponse {
  readonly response: Response;
  /** Whether the hub itself answered, and not a host that it sent us to. */
  readonly own: boolean;
  /** The body in pieces. @throws Transient when the connection is lost */
  pieces(): AsyncGenerator<Uint8Array, void>;
  /** Lets go of a body that is not read. */
  cancel(): Promise<void>;
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MOST_REDIRECTS = 10;

/**
 * One request. Redirections are followed here: the token goes to the hub's own origin and nowhere else, whatever `fetch` would do, and an encrypted
 * connection is never left for a plain one.
 * @throws Transient when there is no answer; HubError `HUB_BAD_ANSWER`; the signal's reason when it is aborted
 */
export async function request(url: string, init: RequestInit, access: HubAccess): Promise<HubResponse> {
  const { signal, timeoutMs } = access;
  const home = new URL(access.endpoint).origin;
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), timeoutMs);
  const either = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
  const lost = (at: URL, cause: unknown): unknown => {
    clearTimeout(timer);
    if (signal?.aborted) return signal.reason;
    if (cause instanceof HubError) return cause;
    const why = silence.signal.aborted ? `no byte came in ${timeoutMs / 1000} s` : reason(cause);
    return new Transient(
      new HubError('HUB_UNREACHABLE', `${at.origin}: the connection failed (${why}). Check the network, and HF_ENDPOINT if it is set.`, { cause }),
    );
  };
  let target = new URL(url);
  try {
    for (let hops = 0; hops <= MOST_REDIRECTS; hops++) {
      const asked = access.fetch(target, { ...init, headers: headersFor(target, home, init, access), redirect: 'manual', signal: either });
      const response = await abortable(asked, either);
      const location = REDIRECTS.has(response.status) ? response.headers.get('location') : null;
      if (location === null) return answer(response, target);
      letGo(response.body);
      target = nextHop(target, location);
    }
  } catch (cause) {
    throw lost(target, cause);
  }
  clearTimeout(timer);
  throw new HubError('HUB_BAD_ANSWER', `${url}: redirects more than ${MOST_REDIRECTS} times. Check HF_ENDPOINT.`);

  function answer(response: Response, from: URL): HubResponse {
    return {
      response,
      own: from.origin === home,
      async *pieces(): AsyncGenerator<Uint8Array, void> {
        const reader = response.body?.getReader();
        try {
          while (reader) {
            // Node's fetch may leave a read without an end where the abort meets its beginning.
            const step = await abortable(reader.read(), either);
            if (step.done) break;
            timer.refresh();
            yield step.value;
          }
        } catch (cause) {
          throw lost(from, cause);
        } finally {
          clearTimeout(timer);
          letGo(reader); // not waited for: after an abort that may never end
        }
      },
      async cancel(): Promise<void> {
        clearTimeout(timer);
        if (!response.body?.locked) letGo(response.body);
      },
    };
  }
}

function letGo(body: { cancel(): Promise<void> } | null | undefined): void {
  body?.cancel().catch(() => {}); // a body that failed has nothing to let go of
}

function headersFor(target: URL, home: string, init: RequestInit, { token }: HubAccess): Headers {
  const headers = new Headers(init.headers);
  headers.set('Accept-Encoding', 'identity'); // a range of compressed bytes would be a range of other bytes
  headers.set('User-Agent', 'vispruner');
  headers.delete('Authorization');
  if (token !== undefined && target.origin === home) headers.set('Authorization', `Bearer ${token}`);
  return headers;
}

function nextHop(from: URL, location: string): URL {
  const next = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const allowed = next && (next.protocol === 'https:' || (next.protocol === 'http:' && from.protocol === 'http:'));
  if (allowed) return next;
  throw new HubError('HUB_BAD_ANSWER', `${from.origin}: redirects to ${JSON.stringify(location)}, which is no secure address. Check HF_ENDPOINT.`);
}

function reason(cause: unknown): string {
  const inner = cause instanceof Error ? cause.cause : undefined; // fetch says "fetch failed", and why inside
  const told = inner instanceof Error ? inner : cause;
  return told instanceof Error ? ((told as { code?: string }).code ?? told.message) : String(told);
}
