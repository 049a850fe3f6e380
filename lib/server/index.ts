/**
 * An OpenAI-compatible server in front of a model, for Node: `vispruner serve`, and `import { createServer } from 'vispruner/server'`.
 *
 * @packageDocumentation
 */
export { isPublicAddress } from './addresses';
export { type ErrorBody, RequestError, ServerError } from './errors';
export { type FetchImage, type FetchPolicy, publicFetcher } from './fetch_public';
export type { ServerOptions } from './options';
export { createServer, type ListeningAt, type ModelServer } from './server';
