import { abortable } from '../pacer';
import { ClientGone, RequestError } from './errors';

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Reads a body of at most `maxBytes` as text. @throws RequestError `BODY_TOO_LARGE`, `BODY_NOT_JSON` for what is not UTF-8; ClientGone; the signal's reason */
export async function readBody(request: Request, maxBytes: number, signal: AbortSignal): Promise<string> {
  const declared = Number(request.headers.get('content-length') ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes, `has ${declared} bytes`);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of pieces(request, signal)) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(maxBytes, 'is longer than that');
    chunks.push(chunk);
  }
  try {
    return utf8.decode(Buffer.concat(chunks, size));
  } catch (cause) {
    throw new RequestError('BODY_NOT_JSON', 'The body is not UTF-8, which JSON is written in.', { cause });
  }
}

/** Left early, the rest is not cancelled: that would close the connection before the reply is sent. */
async function* pieces({ body }: Request, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  if (!body) return;
  const reader = body.getReader();
  for (;;) {
    let step: Awaited<ReturnType<typeof reader.read>>;
    try {
      step = await abortable(reader.read(), signal);
    } catch (cause) {
      signal.throwIfAborted();
      throw new ClientGone({ cause });
    }
    if (step.done) return;
    yield step.value;
  }
}

function tooLarge(maxBytes: number, found: string): RequestError {
  return new RequestError('BODY_TOO_LARGE', `A body may have ${maxBytes} bytes, and this one ${found}. Send smaller images.`);
}
