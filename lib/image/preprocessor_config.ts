import { z } from 'zod';
import { ConfigError } from '../../layers/errors';
import type { Filter } from './resize';
import type { Size } from './types';

/** What is done with what does not fit a square: cut off at both ends (`crop`), or filled up with the mean colour before resizing (`pad`). */
export type Aspect = 'crop' | 'pad';

/** preprocessor_config.json with transformers' defaults filled in. */
export interface PreprocessorConfig {
  readonly do_resize: boolean;
  readonly size: { readonly shortest_edge: number } | Size;
  readonly resample: Filter;
  readonly do_center_crop: boolean;
  readonly crop_size: Size;
  readonly do_rescale: boolean;
  readonly rescale_factor: number;
  readonly do_normalize: boolean;
  readonly image_mean: readonly [number, number, number];
  readonly image_std: readonly [number, number, number];
  readonly aspect: Aspect;
}

const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073] as const;
const CLIP_STD = [0.26862954, 0.26130258, 0.27577711] as const;

/** Processors that do what `prepareImage` does; `Fast` and `Pil` variants have the same fields. */
const KNOWN_TYPES = ['CLIPImageProcessor', 'CLIPFeatureExtractor', 'LlavaImageProcessor'];

const side = z.int().min(1).max(65536);
const square = side.transform((value) => ({ width: value, height: value }));
const sides = z.strictObject({ height: side, width: side });
const pair = z.tuple([side, side]).transform(([height, width]) => ({ width, height }));
const triple = z.tuple([z.number(), z.number(), z.number()]);

const schema = z.object({
  do_resize: z.boolean().nullish(),
  size: z.union([side.transform((value) => ({ shortest_edge: value })), z.strictObject({ shortest_edge: side }), sides, pair]).nullish(),
  resample: z
    .union([z.literal(2), z.literal(3)])
    .transform((value): Filter => (value === 2 ? 'bilinear' : 'bicubic'))
    .nullish(),
  do_center_crop: z.boolean().nullish(),
  crop_size: z.union([square, sides, pair]).nullish(),
  do_rescale: z.boolean().nullish(),
  rescale_factor: z.number().positive().nullish(),
  do_normalize: z.boolean().nullish(),
  image_mean: triple.nullish(),
  image_std: triple.refine((values) => values.every((value) => value > 0), 'every value must be above 0').nullish(),
  do_pad: z.boolean().nullish(),
  image_aspect_ratio: z.enum(['pad', 'square', 'crop']).nullish(),
  image_processor_type: z.string().nullish(),
  feature_extractor_type: z.string().nullish(),
});

/**
 * Reads the fields of transformers' CLIPImageProcessor and LlavaImageProcessor, with their defaults where the file is silent.
 *
 * @param json parsed preprocessor_config.json; or processor_config.json, whose `image_processor` is then taken, as transformers 5 writes it
 * @param file how messages call it
 * @throws {ConfigError} `PREPROCESSOR_CONFIG` for a field of the wrong form, `PREPROCESSOR_UNSUPPORTED` for another kind of processor
 */
export function parsePreprocessorConfig(json: unknown, file: string): PreprocessorConfig {
  const nested = typeof json === 'object' && json !== null && 'image_processor' in json ? json.image_processor : json;
  const parsed = schema.safeParse(nested);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the file'}: ${problemOf(issue, nested)}`).join('; ');
    throw new ConfigError('PREPROCESSOR_CONFIG', `${file} is not a preprocessor configuration that is supported: ${problems}.`);
  }
  const fields = parsed.data;
  const type = fields.image_processor_type ?? fields.feature_extractor_type ?? 'CLIPImageProcessor';
  if (!KNOWN_TYPES.includes(type.replace(/(Fast|Pil)$/, ''))) {
    throw new ConfigError('PREPROCESSOR_UNSUPPORTED', `${file} asks for ${type}; supported are ${KNOWN_TYPES.join(', ')} and their Fast variants.`);
  }
  const pads = fields.image_aspect_ratio === 'pad' || (fields.do_pad ?? false);
  return {
    do_resize: fields.do_resize ?? true,
    size: fields.size ?? { shortest_edge: 224 },
    resample: fields.resample ?? 'bicubic',
    do_center_crop: fields.do_center_crop ?? true,
    crop_size: fields.crop_size ?? { width: 224, height: 224 },
    do_rescale: fields.do_rescale ?? true,
    rescale_factor: fields.rescale_factor ?? 1 / 255,
    do_normalize: fields.do_normalize ?? true,
    image_mean: fields.image_mean ?? CLIP_MEAN,
    image_std: fields.image_std ?? CLIP_STD,
    aspect: pads ? 'pad' : 'crop',
  };
}

/** What a directory without a preprocessor_config.json is taken to mean: CLIP's processor at the size of its vision tower. */
export function defaultPreprocessorConfig(imageSize: number): PreprocessorConfig {
  return parsePreprocessorConfig({ size: { shortest_edge: imageSize }, crop_size: imageSize }, 'the default preprocessor configuration');
}

const EXPECTED: Record<string, string> = {
  size: 'must be {"shortest_edge": n}, {"height": h, "width": w} or n',
  crop_size: 'must be {"height": h, "width": w} or n',
  resample: 'must be 2 (bilinear) or 3 (bicubic)',
  image_aspect_ratio: 'must be "pad" or "square"; "anyres" is not supported',
};

function problemOf(issue: { path: PropertyKey[]; message: string }, json: unknown): string {
  const field = String(issue.path[0]);
  const value = typeof json === 'object' && json !== null ? JSON.stringify((json as Record<string, unknown>)[field]) : JSON.stringify(json);
  return `${EXPECTED[field] ?? issue.message}, and is ${value}`;
}
