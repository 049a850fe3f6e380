/**
 * JSON read so that nothing is lost: numbers keep their source text (JSON.parse can't tell 2.0 from 2 and rounds above 2^53), objects keep every
 * key in order (JSON.parse keeps the last of duplicates), `__proto__` is a key like any other.
 */
export type JsonNode =
  | { readonly kind: 'object'; readonly entries: readonly (readonly [key: string, value: JsonNode])[] }
  | { readonly kind: 'array'; readonly items: readonly JsonNode[] }
  | { readonly kind: 'number'; readonly source: string }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'literal'; readonly value: true | false | null };

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

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these in a string
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPES: ReadonlyMap<string, string> = new Map(Object.entries({ '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }));

/**
 * One JSON value (RFC 8259) with white space around it, and nothing else.
 * Stricter than JSON.parse in two points: an escaped lone surrogate and a number beyond float64 are refused.
 * @throws JsonTextError
 */
export function parseJsonText(text: string): JsonNode {
  const reader = new Reader(text);
  const node = reader.value(1);
  reader.end();
  return node;
}

class Reader {
  private position = 0;

  constructor(private readonly text: string) {}

  end(): void {
    this.match(SPACE);
    if (this.position < this.text.length) this.fail('something follows the end of the JSON value');
  }

  value(depth: number): JsonNode {
    this.match(SPACE);
    const character = this.text[this.position];
    if ((character === '{' || character === '[') && depth > MAX_DEPTH) this.fail(`it is nested deeper than ${MAX_DEPTH} levels`);
    if (character === '{') return this.object(depth);
    if (character === '[') return this.array(depth);
    if (character === '"') return { kind: 'string', value: this.string() };
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (this.text.startsWith(word, this.position)) {
        this.position += word.length;
        return { kind: 'literal', value };
      }
    }
    const start = this.position;
    const source = this.match(NUMBER);
    if (source === '')
      this.fail(character === undefined ? 'the text ends where a value belongs' : `${JSON.stringify(character)} can't begin a value`);
    if (!Number.isFinite(Number(source))) this.fail('the number is out of range', start);
    return { kind: 'number', source };
  }

  private object(depth: number): JsonNode {
    const entries: (readonly [string, JsonNode])[] = [];
    this.position++;
    if (this.skipTo('}')) return { kind: 'object', entries };
    do {
      this.match(SPACE);
      if (this.text[this.position] !== '"') this.fail('a key in double quotes belongs here');
      const key = this.string();
      if (!this.skipTo(':')) this.fail('a ":" belongs after the key');
      entries.push([key, this.value(depth + 1)]);
    } while (this.skipTo(','));
    if (!this.skipTo('}')) this.fail('a "," or "}" belongs here');
    return { kind: 'object', entries };
  }

  private array(depth: number): JsonNode {
    const items: JsonNode[] = [];
    this.position++;
    if (this.skipTo(']')) return { kind: 'array', items };
    do items.push(this.value(depth + 1));
    while (this.skipTo(','));
    if (!this.skipTo(']')) this.fail('a "," or "]" belongs here');
    return { kind: 'array', items };
  }

  private string(): string {
    this.position++;
    let result = this.match(PLAIN);
    for (;;) {
      const character = this.text[this.position];
      if (character === '"') {
        this.position++;
        return result;
      }
      if (character === undefined) this.fail('a string does not end');
      if (character !== '\\') this.fail('a control character must be escaped in a string');
      result += this.escape() + this.match(PLAIN);
    }
  }

  private escape(): string {
    const letter = this.text[this.position + 1] ?? '';
    if (letter !== 'u') {
      const plain = ESCAPES.get(letter);
      if (plain === undefined) this.fail('unknown escape in a string');
      this.position += 2;
      return plain;
    }
    const first = this.unit();
    if (first < 0xd800 || first > 0xdfff) return String.fromCharCode(first);
    if (first < 0xdc00 && this.text.startsWith('\\u', this.position)) {
      const second = this.unit();
      if (second >= 0xdc00 && second <= 0xdfff) return String.fromCharCode(first, second);
    }
    return this.fail('a lone surrogate is no character');
  }

  /** The UTF-16 unit of a `\uXXXX` here. */
  private unit(): number {
    const digits = this.text.slice(this.position + 2, this.position + 6);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail('four hexadecimal digits belong after \\u');
    this.position += 6;
    return Number.parseInt(digits, 16);
  }

  private skipTo(character: string): boolean {
    this.match(SPACE);
    if (this.text[this.position] !== character) return false;
    this.position++;
    return true;
  }

  private match(pattern: RegExp): string {
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.text)?.[0] ?? '';
    this.position += found.length;
    return found;
  }

  private fail(message: string, position: number = this.position): never {
    throw new JsonTextError(message, position);
  }
}
