import { randomUUID } from 'node:crypto';
import type { VisPrunerError } from '../../layers/errors';
import type { Answer } from '../answer';
import { type Metrics, outcomeOf } from './metrics';

const LONGEST_PATH = 200;

/** One request, from its arrival to its end: a line of the log, and counts. */
export class RequestRecord {
  readonly id: string = randomUUID();
  /** The reply is written after its handler returned; whoever writes it ends the record. */
  streaming = false;
  private readonly begun = performance.now();
  private completion: { waited?: number; firstToken?: number } | undefined;
  private notes = '';
  private ended = false;

  /** @param route one of a few: it is a label of the metrics */
  constructor(
    private readonly request: { readonly method: string; readonly path: string; readonly route: string },
    private readonly metrics: Metrics,
    private readonly log: (line: string) => void,
  ) {}

  /** It asks for an answer. */
  asks(): void {
    this.completion = {};
  }

  /** Its turn came, `seconds` after it was read. */
  turn(seconds: number): void {
    this.completion = { ...this.completion, waited: seconds };
  }

  wrote(): void {
    if (this.completion) this.completion.firstToken ??= this.seconds;
  }

  answered({ usage }: Answer): void {
    this.metrics.answered(usage);
    const { promptTokens, cachedTokens, newTokens, visualTokens, visualTokensBefore } = usage;
    this.notes += ` prompt=${promptTokens} cached=${cachedTokens} visual=${visualTokens}/${visualTokensBefore} new=${newTokens}`;
  }

  /** `error` is what it was refused with, or a fault of the server. */
  failed(error: unknown, status: number): void {
    if (status >= 500 && error instanceof Error) this.log(`${this.id} ${(error.stack ?? error.message).replace(/\s*\n\s*/g, ' | ')}`);
    const code = (error as Partial<VisPrunerError> | undefined)?.code;
    if (typeof code === 'string') this.notes += ` code=${code}`;
  }

  end(status: number): void {
    if (this.ended) return;
    this.ended = true;
    const { method, path, route } = this.request;
    const outcome = outcomeOf(status);
    this.metrics.request(route, outcome);
    if (this.completion) this.metrics.completion(outcome, { total: this.seconds, ...this.completion });
    const waited = this.completion?.waited === undefined ? '' : ` waited=${milliseconds(this.completion.waited)}`;
    const time = new Date().toISOString();
    this.log(`${time} ${this.id} ${method} ${path.slice(0, LONGEST_PATH)} ${status} ${milliseconds(this.seconds)}${waited}${this.notes}`);
  }

  private get seconds(): number {
    return (performance.now() - this.begun) / 1000;
  }
}

function milliseconds(seconds: number): string {
  return `${Math.round(seconds * 1000)}ms`;
}
