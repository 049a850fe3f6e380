import { checkOptionNames, type OptionNames } from '../../weights/option_names';
import type { PruneOptions } from '../prune/registry';
import { ServerError } from './errors';
import { type FetchImage, publicFetcher } from './fetch_public';

export interface ServerOptions {
  /** What requests have to give as `model`. */
  readonly name: string;
  /** Pruning of requests that say nothing of it. Default: none. */
  readonly prune?: PruneOptions;
  /** Of draws for requests that give none, 0 to 2^32 - 1. Default 0. */
  readonly seed?: number;
  /** Where it listens, and whether it takes host names that are not this machine's (where this is not loopback). Default 127.0.0.1. */
  readonly host?: string;
  /** Requests that may wait. Default 32. */
  readonly queue?: number;
  /** Conversations whose keys, values and images are kept; 0 computes every request anew. Default 4. */
  readonly conversations?: number;
  /** Default 20,000,000. */
  readonly maxBodyBytes?: number;
  /** Images of a request. Default 8. */
  readonly maxImages?: number;
  /** Pixels that an image may declare. Default 50,000,000. */
  readonly maxPixels?: number;
  /** Whether images may be given by http(s) address: `true` for public addresses, or what fetches them. Default: no. */
  readonly allowUrl?: boolean | FetchImage;
  readonly apiKey?: string;
  /** Origins of web pages that may ask and read; `*` stands for all. */
  readonly cors?: readonly string[];
  /** Milliseconds in which the head, and all of a request, has to arrive. Default 15,000 and 60,000. */
  readonly headTimeout?: number;
  readonly requestTimeout?: number;
  /** Gets a line for each request, and for each fault. */
  readonly log?: (line: string) => void;
}

const SERVER_OPTIONS: OptionNames<ServerOptions> = {
  name: true,
  prune: true,
  seed: true,
  host: true,
  queue: true,
  conversations: true,
  maxBodyBytes: true,
  maxImages: true,
  maxPixels: true,
  allowUrl: true,
  apiKey: true,
  cors: true,
  headTimeout: true,
  requestTimeout: true,
  log: true,
};

/** All that has a default, with it. */
export interface CheckedOptions extends Required<Omit<ServerOptions, 'apiKey' | 'allowUrl'>> {
  readonly apiKey: string | undefined;
  readonly fetchImage: FetchImage | undefined;
}

const FETCH_TIMEOUT_MS = 10_000;
const REDIRECTS = 3;

/** @throws ServerError `SERVER_OPTION`; ConfigError `OPTION_UNKNOWN` */
export function checkedOptions(given: ServerOptions): CheckedOptions {
  checkOptionNames(given, SERVER_OPTIONS, 'createServer');
  const { allowUrl = false, apiKey, ...options } = given;
  const { maxBodyBytes = 20e6 } = options;
  const limits = { maxBytes: maxBodyBytes, timeoutMs: FETCH_TIMEOUT_MS, redirects: REDIRECTS };
  const fetcher = typeof allowUrl === 'function' ? allowUrl : publicFetcher(limits);
  if (typeof options.name !== 'string' || options.name === '')
    throw new ServerError('SERVER_OPTION', 'The name of the model is missing. Give the name that requests are to use.');
  if (apiKey === '') throw new ServerError('SERVER_OPTION', 'The API key is empty. Give one, or leave it out for a server without.');
  return {
    name: options.name,
    prune: options.prune ?? { method: 'none' },
    seed: whole('seed', options.seed ?? 0, 0, 2 ** 32 - 1),
    host: options.host ?? '127.0.0.1',
    queue: whole('queue', options.queue ?? 32, 0),
    conversations: whole('conversations', options.conversations ?? 4, 0),
    maxBodyBytes: whole('maxBodyBytes', maxBodyBytes, 1),
    maxImages: whole('maxImages', options.maxImages ?? 8, 0),
    maxPixels: whole('maxPixels', options.maxPixels ?? 50e6, 1),
    cors: options.cors ?? [],
    headTimeout: whole('headTimeout', options.headTimeout ?? 15_000, 1),
    requestTimeout: whole('requestTimeout', options.requestTimeout ?? 60_000, 1),
    log: options.log ?? (() => {}),
    apiKey,
    fetchImage: allowUrl === false ? undefined : fetcher,
  };
}

function whole(name: string, value: number, least: number, most: number = Number.MAX_SAFE_INTEGER): number {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw new ServerError('SERVER_OPTION', `Option "${name}" is ${value}. Give a whole number from ${least} to ${most}.`);
}
