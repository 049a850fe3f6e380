import { z } from 'zod';
import type { ChatMessage, ChatPart } from '../chat';
import type { JsonSchema } from '../grammar/json_schema';
import type { PruneOptions } from '../prune/registry';
import { RequestError } from './errors';

/** One chat completion, as asked for. */
export interface CompletionRequest {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  /** The addresses of the messages' images, in their order. */
  readonly images: readonly string[];
  readonly prune: PruneOptions | undefined;
  readonly maxNewTokens: number | undefined;
  readonly temperature: number | undefined;
  readonly topP: number | undefined;
  readonly seed: number | undefined;
  readonly stop: readonly string[];
  readonly frequencyPenalty: number | undefined;
  readonly presencePenalty: number | undefined;
  /** Alternatives of each token to return with its log-probability. */
  readonly logprobs: number | undefined;
  /** What the answer has to be in JSON. */
  readonly schema: JsonSchema | undefined;
  /** Texts to choose from, in place of writing one. */
  readonly choices: readonly string[] | undefined;
  /** By token id. */
  readonly logitBias: Readonly<Record<string, number>> | undefined;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** As OpenAI's. */
const MOST_STOP_STRINGS = 4;
const LONGEST_STOP_STRING = 256;
/** A grammar is made of it while nobody else is served. */
const MOST_SCHEMA_PARTS = 2000;
/** Each is a pass of its own through the decoder. */
const MOST_CHOICES = 64;

/** Clients send `null` for what they leave out. */
function left<T extends z.ZodType>(type: T) {
  return type.nullish();
}

const anything = z.unknown().optional();

/** A field that would change the answer, and can't be had: only the values that ask for nothing are taken. */
function nothing(...values: readonly unknown[]) {
  const instead = values.map((one) => `, or give ${JSON.stringify(one)}`).join('');
  const asksForNothing = (value: unknown) => value === undefined || value === null || values.some((one) => isSame(value, one));
  return anything.refine(asksForNothing, { error: `this server can't do that; leave it out${instead}` });
}

/** Equal in itself or, as a list or an object, in its members: a client's value may be nested without end, and is not followed there. */
function isSame(value: unknown, one: unknown): boolean {
  if (typeof value !== 'object' || typeof one !== 'object' || value === null || one === null) return value === one;
  const members = Object.entries(one);
  return (
    Array.isArray(value) === Array.isArray(one) &&
    Object.keys(value).length === members.length &&
    members.every(([key, member]) => (value as Record<string, unknown>)[key] === member)
  );
}

const textPart = z.strictObject({ type: z.literal('text'), text: z.string() });
const imagePart = z.strictObject({
  type: z.literal('image_url'),
  image_url: z.strictObject({ url: z.string(), detail: left(z.enum(['auto', 'low', 'high'])) }),
});

/** A text, or a list of parts. */
function content<T extends z.ZodType>(parts: T) {
  return z.preprocess((value) => (typeof value === 'string' ? [{ type: 'text', text: value }] : value), z.array(parts).min(1));
}

const messageSchema = z.discriminatedUnion('role', [
  z.strictObject({ role: z.enum(['system', 'developer']), content: content(textPart) }),
  z.strictObject({ role: z.literal('user'), content: content(z.discriminatedUnion('type', [textPart, imagePart])) }),
  // What OpenAI's clients give back of an answer that they were given.
  z.strictObject({ role: z.literal('assistant'), content: content(textPart), refusal: nothing(), annotations: nothing([]), tool_calls: nothing([]) }),
]);

const pruneValue = z.union([z.string(), z.number(), z.boolean()], { error: 'give a text, a number, true or false' });

const schemaObject = z.record(z.string(), z.unknown());
const responseFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    // Every answer keeps to its schema, strict or not.
    json_schema: z.strictObject({ name: z.string(), description: left(z.string()), schema: schemaObject, strict: left(z.boolean()) }),
  }),
]);

const bodySchema = z.strictObject({
  model: z.string(),
  messages: z.array(messageSchema).min(1),
  max_tokens: left(z.int().min(1)),
  max_completion_tokens: left(z.int().min(1)),
  temperature: left(z.number()),
  top_p: left(z.number()),
  seed: left(z.int()),
  stop: left(
    z.preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(z.string().max(LONGEST_STOP_STRING)).max(MOST_STOP_STRINGS)),
  ),
  frequency_penalty: left(z.number().min(-2).max(2)),
  presence_penalty: left(z.number().min(-2).max(2)),
  logit_bias: left(z.record(z.string().regex(/^\d{1,9}$/, { error: 'keys must be token ids' }), z.number().min(-100).max(100))),
  logprobs: left(z.boolean()),
  top_logprobs: left(z.int().min(0).max(20)),
  stream: left(z.boolean()),
  stream_options: left(z.strictObject({ include_usage: left(z.boolean()), include_obfuscation: left(z.boolean()) })),
  prune: left(z.record(z.string(), pruneValue).refine((options) => !('begin' in options), { error: 'there is no option "begin"' })),
  response_format: left(responseFormat),
  choices: left(z.array(z.string().min(1)).min(1).max(MOST_CHOICES)),
  // without effect on the answer
  user: anything,
  metadata: anything,
  store: anything,
  service_tier: anything,
  safety_identifier: anything,
  prompt_cache_key: anything,
  prompt_cache_retention: anything,
  parallel_tool_calls: anything,
  // of effect, and not to be had
  n: nothing(1),
  modalities: nothing(['text']),
  tools: nothing([]),
  tool_choice: nothing('none', 'auto'),
  functions: nothing([]),
  function_call: nothing('none', 'auto'),
  audio: nothing(),
  prediction: nothing(),
  reasoning_effort: nothing(),
  verbosity: nothing(),
  web_search_options: nothing(),
});

/** @throws RequestError `BODY_NOT_JSON`, `FIELD_UNKNOWN`, `FIELD_INVALID` */
export function parseRequest(text: string): CompletionRequest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new RequestError('BODY_NOT_JSON', `The body is not JSON: ${(cause as Error).message}.`, { cause });
  }
  const parsed = bodySchema.safeParse(json);
  if (!parsed.success) throw fieldError(parsed.error.issues[0] as z.core.$ZodIssue);
  const { data } = parsed;
  const parts = data.messages.flatMap((message) => message.content);
  return {
    model: data.model,
    messages: data.messages.map(({ role, content: given }) => ({ role: role === 'developer' ? 'system' : role, content: given.map(chatPart) })),
    images: parts.flatMap((part) => (part.type === 'image_url' ? [part.image_url.url] : [])),
    prune: pruneOf(data.prune ?? undefined),
    maxNewTokens: tokenLimit(data.max_tokens ?? undefined, data.max_completion_tokens ?? undefined),
    temperature: data.temperature ?? undefined,
    topP: data.top_p ?? undefined,
    seed: data.seed ?? undefined,
    stop: data.stop ?? [],
    frequencyPenalty: data.frequency_penalty ?? undefined,
    presencePenalty: data.presence_penalty ?? undefined,
    logitBias: data.logit_bias ?? undefined,
    logprobs: alternatives(data.logprobs ?? false, data.top_logprobs ?? undefined),
    schema: schemaOf(data.response_format ?? { type: 'text' }),
    choices: data.choices ?? undefined,
    stream: data.stream ?? false,
    includeUsage: data.stream_options?.include_usage ?? false,
  };
}

function chatPart(part: z.infer<typeof textPart> | z.infer<typeof imagePart>): ChatPart {
  return part.type === 'text' ? part : { type: 'image' };
}

/** A budget without a method means VisPruner, as on the command line. The registry checks names and values. */
function pruneOf(options: Readonly<Record<string, unknown>> | undefined): PruneOptions | undefined {
  return options && ({ method: 'vispruner', ...options } as unknown as PruneOptions);
}

function tokenLimit(older: number | undefined, newer: number | undefined): number | undefined {
  if (older !== undefined && newer !== undefined && older !== newer) {
    throw invalid('max_tokens', `it is ${older} and max_completion_tokens is ${newer}, which mean the same; give one of them`);
  }
  return newer ?? older;
}

function schemaOf(format: z.infer<typeof responseFormat>): JsonSchema | undefined {
  if (format.type === 'text') return undefined;
  if (format.type === 'json_object') return { type: 'object' };
  const { schema } = format.json_schema;
  const size = sizeWithin(schema, MOST_SCHEMA_PARTS);
  if (size > MOST_SCHEMA_PARTS) throw invalid('response_format.json_schema.schema', `it has more than ${MOST_SCHEMA_PARTS} keys and values`);
  return schema;
}

/** Keys and values in a value, counted up to a little above `most`. */
function sizeWithin(value: unknown, most: number): number {
  const open = [value];
  let count = 0;
  while (open.length > 0 && count <= most) {
    const next = open.pop();
    count++;
    if (typeof next === 'object' && next !== null) for (const member of Object.values(next)) open.push(member);
  }
  return count;
}

function alternatives(wanted: boolean, top: number | undefined): number | undefined {
  if (!wanted && top !== undefined) throw invalid('top_logprobs', 'it goes with "logprobs": true only');
  return wanted ? (top ?? 0) : undefined;
}

const LONGEST_SHOWN = 80;

function fieldError(issue: z.core.$ZodIssue): RequestError {
  const path = fieldName(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const name = fieldName([...issue.path, (issue.keys[0] as string).slice(0, LONGEST_SHOWN)]);
    return new RequestError('FIELD_UNKNOWN', `The field "${name}" is not known here. Leave it out: the answer would not be what it asks for.`, {
      param: name,
    });
  }
  const reason = issue.message.replace(/^Invalid input: /, '');
  return invalid(path, reason);
}

function invalid(field: string, reason: string): RequestError {
  const what = field === '' ? 'The body' : `The field "${field}"`;
  return new RequestError('FIELD_INVALID', `${what} is wrong: ${reason}.`, { param: field === '' ? undefined : field });
}

/** messages[0].content[1].type */
function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, key) => {
    if (typeof key === 'number') return `${name}[${key}]`;
    return name === '' ? String(key) : `${name}.${String(key)}`;
  }, '');
}
