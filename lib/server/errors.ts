import { ImageError, PromptError, PruneError, type RequestCode, type ServerCode, VisPrunerError } from '../../layers/errors';

/** The server can't be started as it was asked for. */
export class ServerError extends VisPrunerError<ServerCode> {}

const STATUS: Readonly<Record<RequestCode, number>> = {
  API_KEY_WRONG: 401,
  BODY_NOT_JSON: 400,
  BODY_TOO_LARGE: 413,
  CONTENT_TYPE: 415,
  DATA_URI_INVALID: 400,
  FIELD_INVALID: 400,
  FIELD_UNKNOWN: 400,
  HOST_REFUSED: 403,
  IMAGE_URL_REFUSED: 400,
  METHOD_NOT_ALLOWED: 405,
  MODEL_UNKNOWN: 404,
  ORIGIN_REFUSED: 403,
  PROMPT_TOO_LONG: 400,
  QUEUE_FULL: 429,
  ROUTE_UNKNOWN: 404,
  SERVER_ENDING: 503,
  SERVER_FAILED: 500,
  TOO_MANY_IMAGES: 400,
};

/** OpenAI's names of kinds of errors; whatever is not here is an `invalid_request_error`. */
const TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  429: 'rate_limit_error',
  500: 'server_error',
  503: 'server_error',
};

export interface RequestErrorOptions {
  /** The field of the body that is wrong. */
  readonly param?: string;
  /** Seconds after which the same request may do better. */
  readonly retryAfter?: number;
  readonly cause?: unknown;
}

/** A request is refused. */
export class RequestError extends VisPrunerError<RequestCode> {
  /** Of the HTTP reply. */
  readonly status: number;
  readonly param: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(code: RequestCode, message: string, { param, retryAfter, cause }: RequestErrorOptions = {}) {
    super(code, message, { cause });
    this.status = STATUS[code];
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

/** The client closed its connection: nobody waits for a reply. */
export class ClientGone extends Error {
  constructor(options?: { cause?: unknown }) {
    super('The client closed its connection.', options);
  }
}

/** What logs and metrics have for it, as nginx does. */
export const CLIENT_GONE_STATUS = 499;

/** An error as OpenAI's clients read it. */
export interface ErrorBody {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string };
}

export interface ErrorReply {
  readonly status: number;
  readonly body: ErrorBody;
  readonly headers: Readonly<Record<string, string>>;
}

/** What a client is told of an error. What is not its own doing is told without details: those are for the log. */
export function errorReply(error: unknown): ErrorReply {
  if (error instanceof PruneError) return reply(400, error, 'prune');
  if (error instanceof ImageError) return reply(400, error, 'messages');
  if (error instanceof PromptError) return reply(400, error);
  if (!(error instanceof RequestError)) {
    return errorReply(new RequestError('SERVER_FAILED', 'The server failed at this request; its log says why.', { cause: error }));
  }
  const headers: Record<string, string> = error.retryAfter === undefined ? {} : { 'retry-after': String(error.retryAfter) };
  if (error.status === 401) headers['www-authenticate'] = 'Bearer';
  return reply(error.status, error, error.param, headers);
}

function reply(status: number, { message, code }: VisPrunerError<string>, param?: string, headers: Record<string, string> = {}): ErrorReply {
  return { status, body: { error: { message, type: TYPES[status] ?? 'invalid_request_error', param: param ?? null, code } }, headers };
}
