import fc from 'fast-check';
import { z } from 'zod';
import { Random } from '../../../lib';
import type { ChatProcessor } from '../../../lib/chat';
import { Grammars } from '../../../lib/grammar/grammar';
import { checkedSchema, type JsonSchema } from '../../../lib/grammar/json_schema';
import { chatFor, KINDS, scenesChat } from '../../support/tokenizers';

const VOCABULARY = 700; // more rows than tokens, as padded heads have
const END = 2;

function grammarsOf(chat: ChatProcessor): Grammars {
  return new Grammars({ bytes: chat.tokenBytes, vocabulary: VOCABULARY, endIds: new Set([END]) });
}

/** What a model that knows nothing writes: any token that is allowed. After a while it prefers what ends texts and lists. */
async function wander(grammars: Grammars, chat: ChatProcessor, schema: JsonSchema, seed: number, most = 150): Promise<string | undefined> {
  const run = await grammars.begin(schema);
  const random = new Random(seed);
  const ids: number[] = [];
  try {
    while (!run.complete && ids.length < most) {
      const logits = new Float32Array(VOCABULARY);
      run.processor(logits, { request: 0, promptIds: new Int32Array(0), ids });
      const allowed = Array.from(logits.keys()).filter((id) => logits[id] === 0);
      const ending = ids.length < 40 ? [] : allowed.filter((id) => id === END || /^ ?["\]}]/.test(chat.decode([id])));
      const among = ending.length > 0 ? ending : allowed;
      const id = among[Math.floor(random.uniform() * among.length)] as number;
      if (id === END) return chat.decode(ids);
      ids.push(id);
      await run.accept(id);
    }
    return run.complete ? chat.decode(ids) : undefined;
  } finally {
    run.dispose();
  }
}

/** zod counts UTF-16 units where JSON Schema counts characters. */
function oneUnitEach(value: unknown): unknown {
  if (typeof value === 'string') return Array.from(value, (character) => (character.length > 1 ? 'x' : character)).join('');
  if (Array.isArray(value)) return value.map(oneUnitEach);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, oneUnitEach(one)]));
}

function expectValid(schema: JsonSchema, text: string): void {
  const judged = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]).safeParse(oneUnitEach(JSON.parse(text)));
  if (!judged.success) throw new Error(`${text}\nis not of ${JSON.stringify(schema)}:\n${judged.error}`);
}

const word = fc.constantFrom('a', 'name', 'größe', 'x y', '犬', "it's", 'a.b-c');
const text = fc.oneof(word, fc.constantFrom('quote"d', 'back\\slash', 'two\nlines', ''));
const range = fc.tuple(fc.integer({ min: -300, max: 300 }), fc.integer({ min: 0, max: 500 }));
const { schemas } = fc.letrec<{ schemas: JsonSchema; leaf: JsonSchema }>((tie) => ({
  leaf: fc.oneof(
    fc.constantFrom<JsonSchema>(
      { type: 'boolean' },
      { type: 'null' },
      { type: 'integer' },
      { type: 'number' },
      { type: 'string', maxLength: 4 },
      { type: 'string' },
    ),
    fc.uniqueArray(text, { minLength: 1, maxLength: 3 }).map((all) => ({ enum: all })),
    fc.constantFrom<JsonSchema>(
      { const: 3 },
      { const: 'Wörter "in" \\' },
      { enum: [1, 'one', null, true] },
      { anyOf: [{ const: 'a.b-c' }, { const: 'a' }, { enum: ['name', 'na', 1, 12] }, { type: 'boolean' }] },
      { type: ['integer', 'null'], minimum: 4 },
    ),
    range.map(([low, size]) => ({ type: 'integer', minimum: low, maximum: low + size })),
    range.map(([low, size]) => ({ type: 'number', minimum: low / 8, exclusiveMaximum: (low + size + 1) / 8 })),
    fc.constantFrom<JsonSchema>(
      { type: 'string', pattern: '^[A-Z]{2}-[0-9]{1,3}$' },
      { type: 'string', pattern: '^(red|green|blau)$' },
      { type: 'string', minLength: 2, maxLength: 3 },
    ),
  ),
  schemas: fc.oneof(
    { maxDepth: 3, depthSize: 'small', withCrossShrink: true },
    tie('leaf'),
    fc
      .dictionary(word, tie('schemas'), { minKeys: 1, maxKeys: 3 })
      .chain((properties) =>
        fc.subarray(Object.keys(properties)).map((required) => ({ type: 'object', properties, required, additionalProperties: false })),
      ),
    fc.record({ type: fc.constant('array'), items: tie('schemas'), minItems: fc.nat({ max: 2 }), maxItems: fc.integer({ min: 2, max: 4 }) }),
    fc.array(tie('schemas'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
  ),
}));

describe.each(KINDS)('answers by a schema with the tokenizer %s', (kind) => {
  it('are of it, whatever is written, for schemas of all kinds', async () => {
    const chat = await chatFor(kind);
    const grammars = grammarsOf(chat);
    let [finished, all] = [0, 0];
    await fc.assert(
      fc.asyncProperty(schemas, fc.nat(), async (schema, seed) => {
        const text = await wander(grammars, chat, schema, seed);
        all++;
        if (text === undefined) return;
        finished++;
        expectValid(schema, text);
      }),
      { numRuns: 120 },
    );
    grammars.dispose();
    expect(finished / all).toBeGreaterThan(0.8); // the others were cut in the middle
  });

  it.each<[string, JsonSchema]>([
    ['anything', {}],
    ['any object', { type: 'object' }],
    ['any array', { type: 'array', maxItems: 3 }],
    [
      'a recursive one',
      {
        $defs: {
          node: {
            type: 'object',
            properties: { v: { type: 'boolean' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
            required: ['v', 'next'],
          },
        },
        $ref: '#/$defs/node',
      },
    ],
    ['a record of numbers', { type: 'object', additionalProperties: { type: 'number', minimum: 0, maximum: 1 } }],
    ['a tuple', { type: 'array', prefixItems: [{ type: 'boolean' }, { type: 'integer', maximum: -5 }] }],

    [
      'what zod makes',
      z.toJSONSchema(
        z.object({
          shape: z.enum(['circle', 'star']),
          count: z.int().min(0).max(9),
          sure: z.number().min(0).max(1),
          note: z.string().max(6).optional(),
        }),
      ) as JsonSchema,
    ],
  ])('%s', async (_what, schema) => {
    const chat = await chatFor(kind);
    const grammars = grammarsOf(chat);
    let finished = 0;
    for (let seed = 0; seed < 8; seed++) {
      const text = await wander(grammars, chat, schema, seed);
      if (text === undefined) continue;
      finished++;
      expectValid(schema, text);
    }
    grammars.dispose();
    expect(finished).toBeGreaterThan(2);
  });
});

it('never goes round where a value begins another, as XGrammar lets it', async () => {
  const chat = await chatFor('llama');
  const grammars = grammarsOf(chat);
  const one = { enum: ['a.b-c', 'name', 'a'] };
  for (const schema of [one, { anyOf: [one] }, { anyOf: one.enum.map((value) => ({ const: value })) }]) {
    for (let seed = 0; seed < 20; seed++) {
      const text = await wander(grammars, chat, schema, seed);
      expect(one.enum.map((value) => JSON.stringify(value))).toContain(text);
    }
  }
  grammars.dispose();
});

describe('schemas that are refused by name, and where they are wrong', () => {
  const deep = Array.from({ length: 100 }).reduce<JsonSchema>((inner) => ({ type: 'array', items: inner }), { type: 'null' });
  it.each<[string, unknown, string, RegExp]>([
    ['no object', 'a string', 'BAD_SCHEMA', /# is "a string"/],
    ['null', null, 'BAD_SCHEMA', /# is null/],
    ['an unknown type', { type: 'float' }, 'BAD_SCHEMA', /#\/type is "float"/],
    ['an unknown type within', { type: 'object', properties: { a: { type: 'text' } } }, 'BAD_SCHEMA', /#\/properties\/a\/type/],
    ['bounds that exclude everything', { type: 'number', minimum: 2, maximum: 1 }, 'BAD_SCHEMA', /no number/],
    ['no whole number inside', { type: 'integer', exclusiveMinimum: 1, exclusiveMaximum: 2 }, 'BAD_SCHEMA', /no number/],
    ['a bound that is no number', { type: 'number', minimum: '1' }, 'BAD_SCHEMA', /minimum is "1"/],
    ['fewer than none', { type: 'array', minItems: -1 }, 'BAD_SCHEMA', /minItems/],
    ['more at least than at most', { type: 'string', minLength: 3, maxLength: 2 }, 'BAD_SCHEMA', /minLength is 3/],
    ['an empty enum', { enum: [] }, 'BAD_SCHEMA', /enum is \[\]/],
    ['an enum of another type', { type: 'integer', enum: [1, 'two'] }, 'BAD_SCHEMA', /"two"/],
    ['a reference to nothing', { $ref: '#/$defs/none' }, 'BAD_SCHEMA', /nothing is there/],
    ['no regular expression', { type: 'string', pattern: '(' }, 'BAD_SCHEMA', /regular expression/],
    ['a schema without end', deep, 'BAD_SCHEMA', /deep/],
    ['a reference elsewhere', { $ref: 'https://example.org/schema' }, 'SCHEMA_UNSUPPORTED', /references/],
    ['one of several, and not two', { oneOf: [{ type: 'null' }] }, 'SCHEMA_UNSUPPORTED', /"oneOf"/],
    ['all of several', { allOf: [{ type: 'null' }] }, 'SCHEMA_UNSUPPORTED', /"allOf"/],
    ['multiples', { type: 'integer', multipleOf: 5 }, 'SCHEMA_UNSUPPORTED', /"multipleOf"/],
    ['different items', { type: 'array', uniqueItems: true }, 'SCHEMA_UNSUPPORTED', /"uniqueItems"/],
    ['a word without its type', { minimum: 3 }, 'SCHEMA_UNSUPPORTED', /add the type/],
    ['two words at once', { anyOf: [{ type: 'null' }], minimum: 3 }, 'SCHEMA_UNSUPPORTED', /beside "anyOf"/],
    ['a required property that is not described', { type: 'object', required: ['a'] }, 'SCHEMA_UNSUPPORTED', /"a"/],
    ['properties and others', { type: 'object', properties: { a: {} }, additionalProperties: true }, 'SCHEMA_UNSUPPORTED', /additionalProperties/],
    ['nothing', { type: 'object', properties: { a: false } }, 'SCHEMA_UNSUPPORTED', /nothing satisfies/],
    ['a format', { type: 'string', format: 'email' }, 'SCHEMA_UNSUPPORTED', /"email"/],
    ['quotes in a name', { type: 'object', properties: { 'a"b': {} } }, 'SCHEMA_UNSUPPORTED', /name/],
    ['a pattern that takes in quotes', { type: 'string', pattern: '^.*$' }, 'SCHEMA_UNSUPPORTED', /"\."/],
    ['a class that takes in backslashes', { type: 'string', pattern: '^[ -~]+$' }, 'SCHEMA_UNSUPPORTED', /quotes or backslashes/],
    ['looking ahead', { type: 'string', pattern: '^(?!a)b$' }, 'SCHEMA_UNSUPPORTED', /looking around/],
  ])('%s', (_what, schema, code, message) => {
    expect(() => checkedSchema(schema)).toThrow(expect.objectContaining({ name: 'PromptError', code, message: expect.stringMatching(message) }));
  });

  it('a tokenizer of words is refused before any token', async () => {
    const grammars = grammarsOf(await scenesChat());
    await expect(grammars.begin({ type: 'boolean' })).rejects.toMatchObject({ code: 'SCHEMA_TOKENIZER' });
  });

  it('what the grammar library refuses is an error of ours, and the next schema works', async () => {
    const chat = await chatFor('llama');
    const grammars = grammarsOf(chat);
    await expect(grammars.begin({ type: 'string', pattern: '^a{5,2}|[z-a]$' })).rejects.toMatchObject({ code: 'BAD_SCHEMA' });
    await expect(grammars.begin({ $defs: { a: { $ref: '#/$defs/a' } }, $ref: '#/$defs/a' })).rejects.toMatchObject({ name: 'PromptError' });
    expect(await wander(grammars, chat, { type: 'boolean' }, 1)).toMatch(/^(true|false)$/);
    grammars.dispose();
  });
});
