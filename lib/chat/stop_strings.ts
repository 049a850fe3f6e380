import { PromptError } from '../../layers/errors';

/**
 * Ends a text before the first of some strings, also where one lies across the pieces in which the text comes. The first is the one that is whole first; of
 * those that end together, the longest.
 */
export class StopStrings {
  private held = '';
  private found = false;

  /** @throws PromptError `BAD_STOP` */
  constructor(private readonly strings: readonly string[]) {
    const wrong = strings.findIndex((one) => typeof one !== 'string' || one === '');
    if (wrong >= 0) throw new PromptError('BAD_STOP', `Option "stop" has ${JSON.stringify(strings[wrong])}; give strings of at least one character.`);
  }

  /** Whether one was found: what follows is not part of the text. */
  get stopped(): boolean {
    return this.found;
  }

  /** Returns what is certain to come before a stop string; the rest is held back. */
  push(piece: string): string {
    if (this.found) return '';
    this.held += piece;
    let first: { readonly start: number; readonly end: number } | undefined;
    for (const one of this.strings) {
      const start = this.held.indexOf(one);
      const end = start + one.length;
      if (start >= 0 && (!first || end < first.end || (end === first.end && start < first.start))) first = { start, end };
    }
    if (first) {
      this.found = true;
      return this.release(first.start);
    }
    return this.release(this.held.length - Math.max(0, ...this.strings.map((one) => this.begun(one))));
  }

  /** What was held back, once no more comes. */
  end(): string {
    return this.found ? '' : this.release(this.held.length);
  }

  /** How many of the last characters held are the beginning of the string. */
  private begun(string: string): number {
    for (let length = Math.min(string.length - 1, this.held.length); length > 0; length--) {
      if (this.held.endsWith(string.slice(0, length))) return length;
    }
    return 0;
  }

  private release(length: number): string {
    const text = this.held.slice(0, length);
    this.held = this.held.slice(length);
    return text;
  }
}
