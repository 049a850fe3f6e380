import type { Answer } from '../answer';
import type { Answerer, Piece } from './answerer';
import { readBody } from './body';
import { CLIENT_GONE_STATUS, ClientGone, errorReply, RequestError } from './errors';
import type { FetchImage } from './fetch_public';
import { imageBytes } from './images';
import type { TurnQueue } from './queue';
import type { RequestRecord } from './record';
import { ChunkWriter, type CompletionHead, serverSentEvent, wholeReply } from './replies';
import { type CompletionRequest, parseRequest } from './request';

export interface CompletionOptions {
  /** The model's name. */
  readonly name: string;
  readonly maxBodyBytes: number;
  readonly maxImages: number;
  /** Bodies that are read, and images that are fetched, at once. */
  readonly maxReading: number;
  readonly fetchImage: FetchImage | undefined;
}

interface Asked {
  readonly request: CompletionRequest;
  readonly files: readonly Uint8Array[];
}

type Pieces = AsyncGenerator<Piece, Answer, undefined>;

/** A request whose turn it is. */
interface Turn {
  readonly asked: Asked;
  readonly pieces: Pieces;
  readonly job: AbortController;
  readonly record: RequestRecord;
  /** Gives the turn to the next. */
  leave(): void;
}

/** `POST /v1/chat/completions` */
export class Completions {
  private readonly jobs = new Set<AbortController>();
  /** Those whose body, or images, have not arrived. */
  private readonly reading = new Set<AbortController>();

  constructor(
    private readonly answerer: Answerer,
    private readonly queue: TurnQueue,
    private readonly options: CompletionOptions,
  ) {}

  /** Requests that are being read, wait, or are answered. */
  get active(): number {
    return this.jobs.size;
  }

  /** Cuts those off that have not arrived whole. */
  abortReading(reason: RequestError): void {
    for (const job of this.reading) job.abort(reason);
  }

  /** Cuts all of them off. */
  abort(reason: RequestError): void {
    for (const job of this.jobs) job.abort(reason);
  }

  /** @throws RequestError, ClientGone; PromptError, ImageError, PruneError; whatever the model fails with */
  async handle(request: Request, record: RequestRecord): Promise<Response> {
    const job = new AbortController();
    const gone = () => job.abort(new ClientGone());
    if (request.signal.aborted) gone();
    request.signal.addEventListener('abort', gone, { once: true });
    this.jobs.add(job);
    record.asks();
    try {
      const asked = await this.read(request, job);
      const arrived = performance.now();
      const leave = await this.queue.enter(job.signal);
      record.turn((performance.now() - arrived) / 1000);
      const pieces = this.answerer.answer(asked.request, asked.files, job.signal);
      const turn: Turn = { asked, pieces, job, record, leave };
      return await (asked.request.stream ? this.stream(turn) : this.whole(turn));
    } catch (error) {
      job.signal.throwIfAborted(); // with why it was
      throw error;
    } finally {
      if (!record.streaming) this.jobs.delete(job);
    }
  }

  private async read(request: Request, job: AbortController): Promise<Asked> {
    if (!/^application\/json\s*(;|$)/i.test(request.headers.get('content-type') ?? '')) {
      throw new RequestError('CONTENT_TYPE', 'The body must be JSON and say so. Send the header "Content-Type: application/json".');
    }
    this.queue.checkRoom();
    const { name, maxBodyBytes, maxImages, maxReading, fetchImage } = this.options;
    if (this.reading.size >= maxReading) {
      throw new RequestError('QUEUE_FULL', `${this.reading.size} requests are being read already, the most at once. Try again.`, { retryAfter: 1 });
    }
    this.reading.add(job);
    try {
      const parsed = parseRequest(await readBody(request, maxBodyBytes, job.signal));
      if (parsed.model !== name) {
        throw new RequestError('MODEL_UNKNOWN', `There is no model ${JSON.stringify(parsed.model.slice(0, 100))} here. This server has "${name}".`, {
          param: 'model',
        });
      }
      if (parsed.images.length > maxImages) {
        throw new RequestError(
          'TOO_MANY_IMAGES',
          `The messages have ${parsed.images.length} images; this server takes at most ${maxImages} a request.`,
          {
            param: 'messages',
          },
        );
      }
      this.answerer.check(parsed);
      return { request: { ...parsed, images: [] }, files: await imageBytes(parsed.images, fetchImage, job.signal) };
    } finally {
      this.reading.delete(job);
    }
  }

  private head(): CompletionHead {
    return { id: `chatcmpl-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: this.options.name };
  }

  private async whole({ pieces, record, leave }: Turn): Promise<Response> {
    try {
      for (let step = await pieces.next(); ; step = await pieces.next()) {
        record.wrote();
        if (!step.done) continue;
        record.answered(step.value);
        return Response.json(wholeReply(this.head(), step.value));
      }
    } finally {
      leave();
    }
  }

  /** The reply begins with the first piece: an error before it has its own status. */
  private async stream(turn: Turn): Promise<Response> {
    let first: IteratorResult<Piece, Answer>;
    try {
      first = await turn.pieces.next();
    } catch (error) {
      turn.leave();
      throw error;
    }
    turn.record.streaming = true;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        void this.write(controller, turn, first);
      },
      cancel: () => turn.job.abort(new ClientGone()),
    });
    return new Response(body, {
      headers: { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache', 'x-accel-buffering': 'no' },
    });
  }

  /** Writes at the model's speed, not at the client's: whoever reads slowly holds nobody up. Never rejects. */
  private async write(controller: ReadableStreamDefaultController<Uint8Array>, turn: Turn, first: IteratorResult<Piece, Answer>): Promise<void> {
    const { asked, pieces, job, record } = turn;
    const encoder = new TextEncoder();
    const writer = new ChunkWriter(this.head(), asked.request.includeUsage);
    const send = (text: string) => {
      if (!job.signal.aborted) controller.enqueue(encoder.encode(text));
    };
    let status = 200;
    try {
      send(writer.first());
      record.wrote();
      let step = first;
      for (; !step.done; step = await pieces.next()) send(writer.piece(step.value));
      record.answered(step.value);
      send(writer.last(step.value));
    } catch (thrown) {
      const error: unknown = job.signal.aborted ? job.signal.reason : thrown;
      const gone = error instanceof ClientGone;
      const reply = errorReply(error);
      status = gone ? CLIENT_GONE_STATUS : reply.status;
      record.failed(error, status);
      if (!gone) controller.enqueue(encoder.encode(serverSentEvent(reply.body)));
    } finally {
      turn.leave();
      this.jobs.delete(job);
      record.end(status);
      close(controller);
    }
  }
}

/** A stream that its reader cancelled is closed already. */
function close(controller: ReadableStreamDefaultController<Uint8Array>): void {
  try {
    controller.close();
  } catch {
    // nobody reads any more
  }
}
