import { createHash, timingSafeEqual } from 'node:crypto';
import { isLoopback } from './addresses';
import { RequestError } from './errors';

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Compares in a time that tells nothing of the key. @throws RequestError `API_KEY_WRONG` */
export function checkKey(request: Request, key: string): void {
  const given = /^Bearer +(\S+)\s*$/i.exec(request.headers.get('authorization') ?? '')?.[1];
  if (given !== undefined && timingSafeEqual(digest(given), digest(key))) return;
  const what = given === undefined ? 'This server wants a key, and the request has none' : 'The key is not that of this server';
  throw new RequestError('API_KEY_WRONG', `${what}. Send the header "Authorization: Bearer KEY".`);
}

export interface PageRules {
  /** The server listens for this machine alone, so that it has no other names. */
  readonly loopback: boolean;
  /** Origins of pages that may ask; `*` stands for all. */
  readonly origins: readonly string[];
}

/**
 * A server without a key could be driven by any web page that its user opens: by a plain request to 127.0.0.1, or under the page's own host name, once that
 * is made to resolve to 127.0.0.1 (DNS rebinding). A browser names the page in `Origin`, and the name in `Host`.
 * @throws RequestError `HOST_REFUSED`, `ORIGIN_REFUSED`
 */
export function checkPage(request: Request, { loopback, origins }: PageRules): void {
  const host = request.headers.get('host') ?? new URL(request.url).host; // none where the server is mounted in another
  if (loopback && !isLoopback(hostname(host))) {
    throw new RequestError(
      'HOST_REFUSED',
      `This server answers to localhost and 127.0.0.1 only, not to ${JSON.stringify(host)}. Start it with --api-key to have it answer to other names.`,
    );
  }
  const origin = request.headers.get('origin');
  if (origin === null || origins.includes('*') || origins.includes(origin) || origin === `http://${host}`) return;
  throw new RequestError(
    'ORIGIN_REFUSED',
    `Pages of ${JSON.stringify(origin)} may not ask this server. Start it with --cors and that origin to allow it.`,
  );
}

/** Without the port. */
function hostname(host: string): string {
  return URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : '';
}
