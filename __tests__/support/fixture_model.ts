import type * as tf from '@tensorflow/tfjs';
import type { BackendName } from '../../lib/backend/backends';
import { type ModelConfig, parseConfig, type VisionLanguageConfig } from '../../lib/config';
import type { PreparedImage } from '../../lib/image/types';
import { Llava } from '../../lib/llava';
import { TokenModel } from '../../lib/token_model';
import { HeldParameters } from './held_parameters';
import { channelsLast, RecordedFile, readJson } from './recorded';

type Json = { readonly [key: string]: unknown };

/** A case of `gqa/reference.json`. */
export interface RecordedCase {
  readonly name: string;
  /** What differs from config.json. */
  readonly config: Json;
  readonly images: number;
  readonly input_ids: readonly number[];
  readonly greedy: readonly number[];
  readonly margins: readonly number[];
  readonly method?: 'vispruner' | 'fastv';
  readonly tokens?: number;
  readonly importantRatio?: number;
  readonly layer?: number;
  readonly kept?: readonly number[];
}

/** A model over a fixture's weights as they are recorded, without the checkpoint reader: for tests of the model itself. Dispose it. */
export function fixtureModel(directory: string, backend: BackendName, override: Json = {}): TokenModel {
  const config = fixtureConfig(directory, override);
  const weights = new RecordedFile(directory, 'model.safetensors');
  const root = new HeldParameters((name) => weights.get(name));
  const source = { root, check() {}, fill: () => Promise.resolve(), dispose: () => root.dispose() };
  return new TokenModel(config, {}, backend, source, new Llava(config, root));
}

export function fixtureConfig(directory: string, override: Json = {}): ModelConfig {
  return parseConfig(merged(readJson<Json>(directory, 'config.json'), override), `${directory}/config.json`);
}

/** The first `count` of the fixture's recorded images, each one crop; dispose their `pixelValues`. */
export function fixtureImages(directory: string, count: number): PreparedImage[] {
  const { vision_config: vision } = fixtureConfig(directory) as VisionLanguageConfig;
  const pixels = new RecordedFile(directory, 'reference.safetensors').get('pixel_values');
  const side = vision.image_size / vision.patch_size;
  return Array.from({ length: count }, (_, i) => ({
    pixelValues: channelsLast(pixels, i, 1),
    originalSize: { width: vision.image_size, height: vision.image_size },
    grid: { rows: side, columns: side },
  }));
}

/** The prompt as our users write it: one image token an image. */
export function oneTokenAnImage(ids: readonly number[], imageToken: number): number[] {
  return ids.filter((id, i) => id !== imageToken || ids[i - 1] !== imageToken);
}

export function disposeImages(images: readonly { readonly pixelValues: tf.Tensor }[]): void {
  for (const image of images) image.pixelValues.dispose();
}

function merged(base: Json, override: Json): Json {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(override)) {
    result[key] = isObject(value) && isObject(base[key]) ? merged(base[key], value) : value;
  }
  return result;
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
