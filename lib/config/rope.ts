import { z } from 'zod';
import { ConfigError } from '../../layers/errors';
import type { RopeParameters } from '../../layers/rotary';
import { parseFields } from './fields';

const positive = z.number().positive();

const scalingFields = z.object({
  rope_type: z.string().nullish(),
  /** The name of `rope_type` before transformers 4.45. */
  type: z.string().nullish(),
  rope_theta: positive.nullish(),
  factor: positive.nullish(),
  low_freq_factor: positive.nullish(),
  high_freq_factor: positive.nullish(),
  original_max_position_embeddings: positive.nullish(),
  partial_rotary_factor: positive.nullish(),
});

/** The fields of a text_config that say how positions are embedded: transformers 5 writes one object, older releases two fields. */
const ropeFields = z.object({
  rope_theta: positive.nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  partial_rotary_factor: positive.nullish(),
  original_max_position_embeddings: positive.nullish(),
});

/**
 * Brings both forms to transformers 5's `rope_parameters`, with its order of precedence (`RotaryEmbeddingConfigMixin`).
 *
 * @param json the text_config
 * @param maxPositions its `max_position_embeddings`
 * @throws ConfigError `UNSUPPORTED_ROPE`, `CONFIG_FIELD`
 */
export function parseRope(json: unknown, maxPositions: number, file: string, prefix: string): RopeParameters {
  const fields = parseFields(ropeFields, json, file, prefix);
  const old = fields.rope_scaling && Object.keys(fields.rope_scaling).length > 0;
  const where = old ? `${prefix}rope_scaling` : `${prefix}rope_parameters`;
  const scaling = parseFields(scalingFields, (old ? fields.rope_scaling : fields.rope_parameters) ?? {}, file, `${where}.`);
  const rotated = scaling.partial_rotary_factor ?? fields.partial_rotary_factor ?? 1;
  if (rotated !== 1)
    throw new ConfigError(
      'UNSUPPORTED_ROPE',
      `${file}: partial_rotary_factor is ${rotated}; only heads that are turned whole are supported. Use another checkpoint.`,
    );
  const rope_type = scaling.rope_type ?? scaling.type ?? 'default';
  const rope_theta = scaling.rope_theta ?? fields.rope_theta ?? 10000;
  const needed = (field: 'factor' | 'low_freq_factor' | 'high_freq_factor'): number => {
    const value = scaling[field];
    if (typeof value === 'number') return value;
    throw new ConfigError(
      'CONFIG_FIELD',
      `${file}: ${where} is of type "${rope_type}" and has no "${field}", for which there is no default. Give it.`,
    );
  };
  switch (rope_type) {
    case 'default':
      return { rope_type, rope_theta };
    case 'linear':
      return { rope_type, rope_theta, factor: needed('factor') };
    case 'llama3': {
      const [low_freq_factor, high_freq_factor] = [needed('low_freq_factor'), needed('high_freq_factor')];
      if (high_freq_factor <= low_freq_factor) {
        throw new ConfigError(
          'CONFIG_FIELD',
          `${file}: ${where} has high_freq_factor ${high_freq_factor}, which must be above low_freq_factor ${low_freq_factor}. Correct one of them.`,
        );
      }
      const original_max_position_embeddings = fields.original_max_position_embeddings ?? scaling.original_max_position_embeddings ?? maxPositions;
      return { rope_type, rope_theta, factor: needed('factor'), low_freq_factor, high_freq_factor, original_max_position_embeddings };
    }
    default:
      throw new ConfigError(
        'UNSUPPORTED_ROPE',
        `${file}: ${where} is of type "${rope_type}"; supported are default, linear and llama3. Use a checkpoint with one of these.`,
      );
  }
}
