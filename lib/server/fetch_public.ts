import { lookup as systemLookup } from 'node:dns/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { abortable } from '../pacer';
import { isPublicAddress } from './addresses';
import { RequestError } from './errors';

export interface FetchLimits {
  readonly maxBytes: number;
  /** Of the whole, redirects included. */
  readonly timeoutMs: number;
  readonly redirects: number;
}

export interface FetchPolicy extends FetchLimits {
  /** Which addresses may be connected to. Default: public ones. */
  readonly allows?: (address: string) => boolean;
  /** Every address of a name. Default: the system's resolver. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
}

/** One picture's bytes, by its address. */
export type FetchImage = (address: string, signal: AbortSignal) => Promise<Uint8Array>;

/**
 * Fetches for clients who may not look into this machine's networks. A name is resolved once, all its addresses must be allowed, and the connection goes to
 * one of those, so that a name that resolves otherwise the next time (DNS rebinding) changes nothing. Redirects are followed by the same rules.
 */
export function publicFetcher(policy: FetchPolicy): FetchImage {
  return async (address, signal) => {
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(refused(address, `it took more than ${policy.timeoutMs / 1000} seconds`)), policy.timeoutMs);
    const follow = () => deadline.abort(signal.reason);
    if (signal.aborted) follow();
    signal.addEventListener('abort', follow, { once: true });
    try {
      return await fetchWithin(address, policy, deadline.signal);
    } catch (error) {
      deadline.signal.throwIfAborted();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', follow);
    }
  };
}

async function fetchWithin(address: string, policy: FetchPolicy, signal: AbortSignal): Promise<Uint8Array> {
  let url = parsed(address);
  for (let hop = 0; hop <= policy.redirects; hop++) {
    const response = await connect(url, await allowedAddress(url, policy, signal), signal);
    try {
      const { statusCode = 0, headers } = response;
      if (statusCode >= 300 && statusCode < 400 && headers.location !== undefined) {
        url = parsed(headers.location, url);
        continue;
      }
      if (statusCode !== 200) throw refused(url, `the server answered ${statusCode}`);
      return await readAll(response, url, policy.maxBytes);
    } finally {
      response.destroy();
    }
  }
  throw refused(address, `it was redirected more than ${policy.redirects} times`);
}

function parsed(address: string, base?: URL): URL {
  let url: URL;
  try {
    url = new URL(address, base);
  } catch (cause) {
    throw refused(address, 'it is no address', cause);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw refused(url, `its scheme is "${url.protocol}", not http or https`);
  if (url.username !== '' || url.password !== '') throw refused(url, 'it has a user name or password in it');
  return url;
}

/** @throws RequestError `IMAGE_URL_REFUSED` */
async function allowedAddress(url: URL, { allows = isPublicAddress, resolve = resolveAll }: FetchPolicy, signal: AbortSignal): Promise<string> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  let addresses: readonly string[] = [host];
  if (!isIP(host)) {
    try {
      addresses = await abortable(resolve(host), signal);
    } catch (cause) {
      signal.throwIfAborted();
      throw refused(url, `no address of "${host}" could be found`, cause);
    }
  }
  const [first] = addresses;
  if (first === undefined) throw refused(url, `"${host}" has no address`);
  // One answer for every kind of private address: a client learns nothing of the networks around the server.
  if (!addresses.every(allows)) throw refused(url, `"${host}" is not a public host`);
  return first;
}

async function resolveAll(name: string): Promise<readonly string[]> {
  return (await systemLookup(name, { all: true })).map(({ address }) => address);
}

function connect(url: URL, address: string, signal: AbortSignal): Promise<IncomingMessage> {
  const family = isIP(address);
  const pinned: LookupFunction = (_, { all }, callback) => (all ? callback(null, [{ address, family }]) : callback(null, address, family));
  const headers = { accept: 'image/png, image/jpeg, image/webp', 'accept-encoding': 'identity', 'user-agent': 'vispruner' };
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
    request(url, { lookup: pinned, signal, headers, agent: false })
      .on('response', resolve)
      .on('error', (cause: NodeJS.ErrnoException) => reject(refused(url, `the connection failed (${cause.code ?? 'no reason given'})`, cause)))
      .end();
  });
}

async function readAll(response: IncomingMessage, url: URL, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      if (size > maxBytes) throw refused(url, `it is larger than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    throw cause instanceof RequestError ? cause : refused(url, 'the connection was cut', cause);
  }
  return Buffer.concat(chunks, size);
}

const LONGEST_SHOWN = 120;

function refused(address: string | URL, why: string, cause?: unknown): RequestError {
  const text = String(address);
  const shown = text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
  return new RequestError('IMAGE_URL_REFUSED', `The image ${shown} can't be fetched: ${why}.`, { param: 'messages', cause });
}
