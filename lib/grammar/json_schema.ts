import { PromptError } from '../../layers/errors';
import { literalRules } from './literals';
import { type Bound, type NumberRange, numberRules } from './numbers';

/** A JSON Schema (draft 2020-12), as far as `schema` takes it: see docs/schema.md. */
export type JsonSchema = Readonly<Record<string, unknown>>;

const NOTES = [
  'title',
  'description',
  'default',
  'examples',
  '$schema',
  '$id',
  '$comment',
  'deprecated',
  'readOnly',
  'writeOnly',
  '$defs',
  'definitions',
];
/** What each type can be held to. */
const BY_TYPE: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  boolean: [],
  null: [],
};
/** Each of these says all by itself: beside it there may be notes only (and a type). */
const WHOLE = ['enum', 'const', 'anyOf', '$ref'];
const DEPTH = 64;

/** Stands in the schema for a rule of our own. */
function markOf(rule: string): string {
  return `\u{f8ff}${rule}`;
}

/** A schema for XGrammar's converter, and what is to be put into the grammar that it makes. */
export interface CheckedSchema {
  readonly schema: JsonSchema;
  /** EBNF by the name of the first of its rules, for numbers and for choices among values. */
  readonly rules: ReadonlyMap<string, string>;
}

/**
 * Checks that a grammar can hold the model to every word of the schema. Objects and arrays of which nothing is said may have anything.
 * @throws PromptError `BAD_SCHEMA`, `SCHEMA_UNSUPPORTED`
 */
export function checkedSchema(schema: unknown): CheckedSchema {
  const checker = new Checker(schema);
  return { schema: checker.check(schema, '#', 0) as JsonSchema, rules: checker.rules };
}

/** Puts rules of ours into a grammar that was made of a checked schema, and leaves no room for control characters or spaces without end. */
export function completeGrammar(ebnf: string, { rules }: CheckedSchema): string {
  const anyNumber = numberRules('any_number', { integer: false, low: undefined, high: undefined }) as string;
  const marked = [...rules.keys()].reduce((text, name) => text.replaceAll(`"\\"${markOf(name)}\\""`, name), ebnf);
  const plain = marked
    .replaceAll(/^basic_(?:number|integer) ::= .*$/gm, (line) => `${line.split(' ')[0]} ::= any_number`)
    .replaceAll(/\[ \\n\\t\](?:\*|\{0,1\})/g, '[ ]{0,1}');
  return [plain, anyNumber, ...rules.values()].join('\n');
}

class Checker {
  readonly rules = new Map<string, string>();

  constructor(private readonly root: unknown) {}

  check(value: unknown, place: string, depth: number): unknown {
    if (typeof value === 'boolean' && place !== '#') {
      if (value) return value;
      throw unsupported(`${place} is false, which nothing satisfies; leave the property or the item out.`);
    }
    if (!isObject(value)) throw bad(`${place} is ${shown(value)}; a schema is an object.`);
    if (depth > DEPTH) throw bad(`${place}: schemas are nested more than ${DEPTH} deep.`);
    const within = (part: unknown, name: string) => this.check(part, `${place}/${name}`, depth + 1);
    const words = Object.keys(value).filter((word) => !NOTES.includes(word));
    const whole = words.find((word) => WHOLE.includes(word));
    const definitions = Object.fromEntries(
      ['$defs', 'definitions'].flatMap((name) => (name in value ? [[name, this.each(value[name], `${place}/${name}`, depth)]] : [])),
    );
    if (whole !== undefined) return { ...value, ...definitions, ...this.whole(whole, value, words, place, within) };
    const types = typesOf(value, place);
    this.checkWords(words, types, place);
    const rest: Record<string, unknown> = { ...value, ...definitions };
    if (types.includes('object')) Object.assign(rest, this.object(value, place, depth));
    if (types.includes('array')) Object.assign(rest, this.array(value, place, depth));
    if (types.includes('string')) Object.assign(rest, checkedString(value, place));
    return this.withNumbers(rest, types, place);
  }

  /** XGrammar's own ranges of decimal numbers let others through (0.1.27: 1.8765 where 1 is the maximum), so numbers get rules of ours. */
  private withNumbers(schema: Record<string, unknown>, types: readonly string[], place: string): unknown {
    const number = types.find((type) => type === 'number' || type === 'integer'); // an integer beside a number says nothing new
    if (number === undefined) return schema;
    const name = `number_${this.rules.size}`;
    const rules = numberRules(name, rangeOf(schema, !types.includes('number'), place));
    if (rules === undefined) throw bad(`${place}: no number of at most 15 digits is in its range.`);
    this.rules.set(name, rules);
    const others = types.filter((type) => type !== 'number' && type !== 'integer');
    const mark = { const: markOf(name) };
    return others.length === 0 ? mark : { anyOf: [mark, { ...schema, type: others }] };
  }

  private whole(
    word: string,
    schema: JsonSchema,
    words: readonly string[],
    place: string,
    within: (part: unknown, name: string) => unknown,
  ): Record<string, unknown> {
    const beside = words.find((other) => other !== word && !(other === 'type' && (word === 'enum' || word === 'const')));
    if (beside !== undefined) throw unsupported(`${place} has "${beside}" beside "${word}"; only one of the two can be kept to.`);
    const value = schema[word];
    if (word === '$ref') {
      if (typeof value !== 'string' || !value.startsWith('#'))
        throw unsupported(`${place}/$ref is ${shown(value)}; only references into the schema itself ("#/$defs/...") are followed.`);
      if (resolved(this.root, value) === undefined) throw bad(`${place}/$ref is "${value}", and nothing is there.`);
      return {};
    }
    if (word === 'anyOf') return this.anyOf(list(value, `${place}/anyOf`), (one, i) => within(one, `anyOf/${i}`));
    const allowed = word === 'enum' ? list(value, `${place}/enum`) : [value];
    const types = 'type' in schema ? typesOf(schema, place) : undefined;
    const wrong = types && allowed.find((one) => !types.some((type) => isOfType(one, type)));
    if (wrong !== undefined) throw bad(`${place}/${word} has ${shown(wrong)}, which is not of its type (${types?.join(', ')}).`);
    return word === 'enum' ? { enum: undefined, ...this.oneOf(allowed) } : {};
  }

  /** Alternatives that are values are one choice among all of these. */
  private anyOf(alternatives: readonly unknown[], check: (one: unknown, i: number) => unknown): Record<string, unknown> {
    const values: unknown[] = [];
    const others: unknown[] = [];
    for (const [i, one] of alternatives.entries()) {
      const checked = check(one, i);
      const own = this.valuesOf(one, 0);
      if (own) values.push(...own);
      else others.push(checked);
    }
    return { anyOf: values.length === 0 ? others : [this.oneOf(values), ...others] };
  }

  /** The values that a schema names, where it names all. */
  private valuesOf(schema: unknown, depth: number): readonly unknown[] | undefined {
    if (!isObject(schema) || depth > DEPTH) return undefined;
    if (typeof schema.$ref === 'string') return this.valuesOf(resolved(this.root, schema.$ref), depth + 1);
    if ('const' in schema) return [schema.const];
    if (Array.isArray(schema.enum)) return schema.enum;
    if (!Array.isArray(schema.anyOf)) return undefined;
    const all = schema.anyOf.map((one) => this.valuesOf(one, depth + 1));
    return all.every((own) => own !== undefined) ? all.flat() : undefined;
  }

  private oneOf(values: readonly unknown[]): Record<string, unknown> {
    const name = `values_${this.rules.size}`;
    this.rules.set(name, literalRules(name, values));
    return { const: markOf(name) };
  }

  private checkWords(words: readonly string[], types: readonly string[], place: string): void {
    const known = ['type', ...types.flatMap((type) => BY_TYPE[type] as readonly string[])];
    const word = words.find((one) => !known.includes(one));
    if (word === undefined) return;
    const owners = Object.entries(BY_TYPE).flatMap(([type, own]) => (own.includes(word) ? [type] : []));
    if (owners.length > 0) throw unsupported(`${place} has "${word}" without "type": "${owners.join('" or "')}"; add the type.`);
    throw unsupported(
      `${place} has "${word}", to which an answer can't be held. Known are: type, ${[...WHOLE, ...new Set(Object.values(BY_TYPE).flat())].join(', ')}.`,
    );
  }

  private object({ properties, required = [], additionalProperties: others }: JsonSchema, place: string, depth: number): Record<string, unknown> {
    if (!Array.isArray(required) || required.some((one) => typeof one !== 'string'))
      throw bad(`${place}/required is ${shown(required)}; it must be a list of names.`);
    const names = properties === undefined ? [] : Object.keys(isObject(properties) ? properties : {});
    const odd = names.find((name) => JSON.stringify(name) !== `"${name}"`);
    if (odd !== undefined)
      throw unsupported(`${place}/properties has the name ${shown(odd)}; quotes, backslashes and control characters are not known in names.`);
    const missing = (required as string[]).find((name) => !names.includes(name));
    if (missing !== undefined) throw unsupported(`${place}/required has "${missing}", which "properties" does not describe; describe it there.`);
    const checked = properties === undefined ? {} : { properties: this.each(properties, `${place}/properties`, depth) };
    if (names.length > 0) {
      if (others !== undefined && others !== false) {
        throw unsupported(
          `${place}/additionalProperties is ${shown(others)} beside "properties"; then it must be false or absent, and no other property is written.`,
        );
      }
      return { ...checked, additionalProperties: false };
    }
    return { ...checked, additionalProperties: others === false ? false : this.check(others ?? true, `${place}/additionalProperties`, depth + 1) };
  }

  private array({ items, prefixItems, minItems, maxItems }: JsonSchema, place: string, depth: number): Record<string, unknown> {
    checkCounts(minItems, maxItems, `${place}/minItems`, `${place}/maxItems`);
    if (prefixItems !== undefined) {
      if (minItems !== undefined || maxItems !== undefined)
        throw unsupported(`${place} has "prefixItems" and a number of items; leave the number out.`);
      if (items !== undefined && items !== false) throw unsupported(`${place}/items is given beside "prefixItems"; then it must be false or absent.`);
      return {
        prefixItems: list(prefixItems, `${place}/prefixItems`).map((one, i) => this.check(one, `${place}/prefixItems/${i}`, depth + 1)),
        items: false,
      };
    }
    return { items: this.check(items ?? true, `${place}/items`, depth + 1) };
  }

  private each(value: unknown, place: string, depth: number): Record<string, unknown> {
    if (!isObject(value)) throw bad(`${place} is ${shown(value)}; it must be an object of schemas.`);
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, this.check(one, `${place}/${name}`, depth + 1)]));
  }
}

function typesOf({ type }: JsonSchema, place: string): readonly string[] {
  if (type === undefined) return [];
  const types = Array.isArray(type) ? type : [type];
  const unknown = types.find((one) => typeof one !== 'string' || !Object.hasOwn(BY_TYPE, one));
  if (types.length === 0 || unknown !== undefined) throw bad(`${place}/type is ${shown(type)}; the types are ${Object.keys(BY_TYPE).join(', ')}.`);
  return types as string[];
}

function checkedString({ minLength, maxLength, pattern, format }: JsonSchema, place: string): Record<string, unknown> {
  checkCounts(minLength, maxLength, `${place}/minLength`, `${place}/maxLength`);
  if (pattern !== undefined && (minLength !== undefined || maxLength !== undefined)) {
    throw unsupported(`${place} has a length beside "pattern"; say the length in the pattern.`);
  }
  if (pattern !== undefined) {
    checkPattern(pattern, `${place}/pattern`);
    return { format: undefined };
  }
  if (format !== undefined)
    throw unsupported(`${place}/format is ${shown(format)}; an answer is held to no format. Give a pattern, beside it or in its place.`);
  return {};
}

/** @throws PromptError for what is no regular expression, or would let characters through that JSON writes otherwise */
function checkPattern(pattern: unknown, place: string): void {
  try {
    if (typeof pattern !== 'string') throw new TypeError('it is no text');
    new RegExp(pattern, 'u');
  } catch (cause) {
    throw bad(`${place} is ${shown(pattern)}, no regular expression: ${String(cause)}.`);
  }
  if (/\(\?(?!:)|\\[bBkpP1-9]/.test(pattern))
    throw unsupported(`${place} is ${shown(pattern)}; looking around, \\b, \\p and references back are not known.`);
  for (const [atom] of pattern.matchAll(/\[(?:\\.|[^\]\\])*\]|\\(?:u\{[^}]*\}|u[\da-fA-F]{4}|x[\da-fA-F]{2}|c.|.)|[^\\[\]]/gu)) {
    if (!/^[*+?{}()|^$]$/.test(atom) && ['"', '\\'].some((sign) => new RegExp(atom, 'u').test(sign))) {
      throw unsupported(
        `${place} has "${atom}", which takes in quotes or backslashes, written otherwise in JSON. Leave these out, as [^"\\\\] does.`,
      );
    }
  }
}

/** The range of a schema of numbers. */
function rangeOf(schema: JsonSchema, integer: boolean, place: string): NumberRange {
  for (const name of BY_TYPE.number ?? []) {
    const bound = schema[name];
    if (bound !== undefined && (typeof bound !== 'number' || !Number.isFinite(bound)))
      throw bad(`${place}/${name} is ${shown(bound)}; it must be a number.`);
  }
  const bounds = (closed: string, open: string): Bound[] => [
    ...(schema[closed] === undefined ? [] : [{ value: schema[closed] as number, open: false }]),
    ...(schema[open] === undefined ? [] : [{ value: schema[open] as number, open: true }]),
  ];
  const [low] = bounds('minimum', 'exclusiveMinimum').sort((a, b) => b.value - a.value || Number(b.open) - Number(a.open));
  const [high] = bounds('maximum', 'exclusiveMaximum').sort((a, b) => a.value - b.value || Number(b.open) - Number(a.open));
  return { integer, low: integer ? wholeBound(low, 1) : low, high: integer ? wholeBound(high, -1) : high };
}

/** The next whole number inside. */
function wholeBound(bound: Bound | undefined, inwards: 1 | -1): Bound | undefined {
  if (!bound) return undefined;
  const whole = inwards === 1 ? Math.ceil(bound.value) : Math.floor(bound.value);
  return { value: bound.open && whole === bound.value ? whole + inwards : whole, open: false };
}

function checkCounts(least: unknown, most: unknown, leastPlace: string, mostPlace: string): void {
  for (const [count, place] of [
    [least, leastPlace],
    [most, mostPlace],
  ] as const) {
    if (count !== undefined && !(Number.isInteger(count) && (count as number) >= 0))
      throw bad(`${place} is ${shown(count)}; it must be a whole number of at least 0.`);
  }
  if (least !== undefined && most !== undefined && (least as number) > (most as number))
    throw bad(`${leastPlace} is ${shown(least)}, more than ${mostPlace}, ${shown(most)}.`);
}

function isOfType(value: unknown, type: string): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'integer') return Number.isInteger(value);
  return type === 'object' ? isObject(value) : typeof value === type;
}

/** What a JSON pointer in a fragment leads to. */
function resolved(root: unknown, reference: string): unknown {
  const steps = reference
    .slice(1)
    .split('/')
    .slice(1)
    .map((step) => decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~'));
  return steps.reduce<unknown>(
    (value, step) => (value !== null && typeof value === 'object' ? (value as Record<string, unknown>)[step] : undefined),
    root,
  );
}

function list(value: unknown, place: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length === 0) throw bad(`${place} is ${shown(value)}; it must be a list of one or more.`);
  return value;
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

function bad(what: string): PromptError {
  return new PromptError('BAD_SCHEMA', `The schema is wrong: ${what}`);
}

function unsupported(what: string): PromptError {
  return new PromptError('SCHEMA_UNSUPPORTED', `The schema asks for what can't be kept to: ${what}`);
}
