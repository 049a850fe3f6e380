import { fitsFloat64 } from './json_number';

export type JsonKind = 'object' | 'array' | 'string' | 'number' | 'true' | 'false' | 'null';

/** What is wrong with a JSON text, and at which character. */
export class JsonTextError extends Error {
  constructor(
    message: string,
    readonly position: number,
  ) {
    super(message);
  }
}

/** Open brackets at once that are still read: 127, where the safetensors crate stops too. */
const MAX_DEPTH = 127;
/** Characters of a text that a message shows. */
const SHOWN = 120;

const KINDS: ReadonlyMap<string | undefined, JsonKind> = new Map<string, JsonKind>([
  ['{', 'object'],
  ['[', 'array'],
  ['"', 'string'],
  ['t', 'true'],
  ['f', 'false'],
  ['n', 'null'],
  ...Array.from('-0123456789', (character) => [character, 'number'] as const),
]);

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Walks a JSON text (RFC 8259) from its first character to its last, value by value, so that nothing is lost that JSON.parse loses: numbers keep their
 * source text (2.0 is not 2, and nothing is rounded), every key of an object comes by, `__proto__` and doubles included. It keeps nothing of what is
 * skipped, so that a hostile text takes time and memory in proportion to its length.
 *
 * Stricter than JSON.parse, as serde_json is: an escaped lone surrogate, a number beyond float64 and more than 127 open brackets are refused.
 *
 * Every method that reads throws JsonTextError. Where a value of another kind begins than the method is for, that is a mistake of the caller's: ask `kind`.
 */
export class JsonCursor {
  private position = 0;
  private depth = 0;

  constructor(private readonly text: string) {}

  /** What begins here, after white space. */
  kind(): JsonKind {
    this.skipSpace();
    const character = this.text[this.position];
    const kind = KINDS.get(character);
    if (kind) return kind;
    return this.fail(character === undefined ? 'the text ends where a value belongs' : `${JSON.stringify(character)} can't begin a value`);
  }

  /** Calls `member` with each key, in order; it must read the value (or `skip` it). */
  object(member: (key: string) => void): void {
    this.open();
    if (!this.skipTo('}')) {
      do {
        this.skipSpace();
        if (this.text.charCodeAt(this.position) !== QUOTE) this.fail('a key in double quotes belongs here');
        const key = this.string();
        if (!this.skipTo(':')) this.fail('a ":" belongs after the key');
        member(key);
      } while (this.skipTo(','));
      if (!this.skipTo('}')) this.fail('a "," or "}" belongs here');
    }
    this.depth--;
  }

  /** Calls `item` at each value; it must read it (or `skip` it). */
  array(item: () => void): void {
    this.open();
    if (!this.skipTo(']')) {
      do item();
      while (this.skipTo(','));
      if (!this.skipTo(']')) this.fail('a "," or "]" belongs here');
    }
    this.depth--;
  }

  string(): string {
    const start = this.position;
    let end = start + 1;
    let escaped = false;
    for (;;) {
      const code = this.text.charCodeAt(end);
      if (code === QUOTE) break;
      if (code === BACKSLASH) {
        escaped = true;
        end += 2; // an escaped quote does not end the string; whether the escape is one is asked below
      } else if (code >= 0x20) end++;
      else this.fail(end < this.text.length ? 'a control character must be escaped in a string' : 'a string does not end', end);
    }
    this.position = end + 1;
    return escaped ? this.unescape(start, end + 1) : this.text.slice(start + 1, end);
  }

  /** A number's source text. */
  number(): string {
    const start = this.position;
    let end = this.text[start] === '-' ? start + 1 : start;
    end = this.text[end] === '0' ? end + 1 : this.digits(end);
    if (this.text[end] === '.') end = this.digits(end + 1);
    if (this.text[end] === 'e' || this.text[end] === 'E') {
      const signed = this.text[end + 1] === '+' || this.text[end + 1] === '-';
      end = this.digits(end + (signed ? 2 : 1));
    }
    this.position = end;
    const source = this.text.slice(start, end);
    if (!fitsFloat64(source)) this.fail('the number is out of range', start);
    return source;
  }

  /** Reads past a value of any kind, and still refuses one that is not JSON. */
  skip(): void {
    const kind = this.kind();
    if (kind === 'object') this.object(() => this.skip());
    else if (kind === 'array') this.array(() => this.skip());
    else if (kind === 'string') this.string();
    else if (kind === 'number') this.number();
    else if (this.text.startsWith(kind, this.position)) this.position += kind.length;
    else this.fail(`${JSON.stringify(this.text[this.position])} can't begin a value`);
  }

  /** Nothing but white space may follow. */
  end(): void {
    this.skipSpace();
    if (this.position < this.text.length) this.fail('something follows the end of the JSON value');
  }

  /** What begins here, for a message; a string or a number is read. */
  describe(): string {
    const kind = this.kind();
    if (kind === 'string') return `the string ${quoted(this.string())}`;
    if (kind === 'number') return `the number ${shortened(this.number())}`;
    return kind === 'object' || kind === 'array' ? `an ${kind}` : kind;
  }

  private open(): void {
    if (++this.depth > MAX_DEPTH) this.fail(`it is nested deeper than ${MAX_DEPTH} levels`);
    this.position++;
  }

  private unescape(start: number, end: number): string {
    let value: string;
    try {
      value = JSON.parse(this.text.slice(start, end)) as string;
    } catch {
      return this.fail('an unknown escape in a string', start);
    }
    if (/\p{Surrogate}/u.test(value)) this.fail('a lone surrogate in a string is no character', start);
    return value;
  }

  /** The end of one or more digits. */
  private digits(start: number): number {
    let end = start;
    while (this.text.charCodeAt(end) >= 0x30 && this.text.charCodeAt(end) <= 0x39) end++;
    if (end === start) this.fail('a digit belongs here', start);
    return end;
  }

  private skipTo(character: string): boolean {
    this.skipSpace();
    if (this.text[this.position] !== character) return false;
    this.position++;
    return true;
  }

  private skipSpace(): void {
    for (;;) {
      const code = this.text.charCodeAt(this.position);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.position++;
    }
  }

  private fail(message: string, position: number = this.position): never {
    throw new JsonTextError(message, position);
  }
}

/** A name out of a foreign file, as messages show it: in quotes, its control characters escaped, not longer than a line. */
export function quoted(text: string): string {
  return JSON.stringify(shortened(text));
}

export function shortened(text: string): string {
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}
