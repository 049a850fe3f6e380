import { z } from 'zod';
import { count, parseFields, tokenIds } from './fields';

/** generation_config.json: what the checkpoint's authors generate with. Absent fields are absent in the file. */
export interface GenerationConfig {
  readonly bos_token_id?: number;
  /** One id in the file becomes a list of one. */
  readonly eos_token_id?: readonly number[];
  readonly pad_token_id?: number;
  readonly do_sample?: boolean;
  readonly temperature?: number;
  readonly top_p?: number;
  readonly top_k?: number;
  readonly max_new_tokens?: number;
}

const fields = z.object({
  bos_token_id: z.int().min(0).nullish(),
  eos_token_id: tokenIds.nullish(),
  pad_token_id: z.int().nullish(),
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(0).nullish(),
  max_new_tokens: count.nullish(),
});

/** @throws ConfigError `CONFIG_FIELD` */
export function parseGenerationConfig(json: unknown, file = 'generation_config.json'): GenerationConfig {
  const parsed = parseFields(fields, json, file, '');
  return Object.fromEntries(Object.entries(parsed).filter(([, value]) => value !== null && value !== undefined));
}
