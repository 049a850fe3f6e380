import { z } from 'zod';
import { ConfigError } from '../../layers/errors';

/** A size or a number of things. */
export const count: z.ZodInt = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);

/** `eos_token_id`: one id or several. */
export const tokenIds: z.ZodType<readonly number[]> = z.union([
  z
    .int()
    .min(0)
    .transform((id) => [id]),
  z.array(z.int().min(0)),
]);

/**
 * The fields of an object that a schema knows; others are ignored, as configs hold many.
 * @throws ConfigError `CONFIG_FIELD`, with every field that has the wrong form
 */
export function parseFields<T>(schema: z.ZodType<T>, json: unknown, file: string, prefix: string): T {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    ({ path, message }) => `${prefix}${path.join('.')} is ${JSON.stringify(valueAt(json, path)) ?? 'missing'} (${message})`,
  );
  throw new ConfigError('CONFIG_FIELD', `${file}: ${problems.join('; ')}. Correct it, or leave the field out for transformers' default.`);
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined),
    json,
  );
}
