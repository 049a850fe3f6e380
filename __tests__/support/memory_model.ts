import { parseConfig } from '../../lib/config';
import { Llava } from '../../lib/llava';
import { Random } from '../../lib/random';
import { BOS, buildProcessorFiles, EOS, IMAGE, PAD, tokenId, VOCABULARY } from '../../lib/scenes';
import { Declarations } from '../../weights/declarations';
import { encodeSafetensors, type StoredTensor } from '../../weights/safetensors_write';
import { bytesOf, type Files } from './tokenizers';

/** Patches of an image of the small model. */
export const PATCHES = 16;

const TEXT: Readonly<Record<string, unknown>> = {
  model_type: 'llama',
  vocab_size: VOCABULARY.length,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 160,
  bos_token_id: tokenId(BOS),
  eos_token_id: tokenId(EOS),
  pad_token_id: tokenId(PAD),
};

export const LLAVA_CONFIG: Readonly<Record<string, unknown>> = {
  model_type: 'llava',
  image_token_index: tokenId(IMAGE),
  vision_config: { hidden_size: 32, intermediate_size: 48, num_hidden_layers: 3, num_attention_heads: 4, image_size: 32, patch_size: 8 },
  text_config: TEXT,
};

export const LANGUAGE_CONFIG: Readonly<Record<string, unknown>> = TEXT;

/** A whole directory: a small model of seeded weights, the shipped model's tokenizer and template, images of 32 x 32. */
export async function modelFiles(config: object = LLAVA_CONFIG): Promise<Record<string, Uint8Array>> {
  const side = { height: 32, width: 32 };
  const processors = buildProcessorFiles();
  const files: Files = {
    ...processors,
    'preprocessor_config.json': { ...processors['preprocessor_config.json'], crop_size: side, size: { shortest_edge: 32 } },
    'config.json': config,
    'generation_config.json': { eos_token_id: VOCABULARY.length }, // never drawn: answers are as long as they may be
    'model.safetensors': await encodeSafetensors(seededWeights(config)),
  };
  return Object.fromEntries(Object.entries(files).map(([name, content]) => [name, bytesOf(content as string | object)]));
}

/** Under the names that layers declare, so lively that the answers differ by image and question. */
export function seededWeights(config: object): Map<string, StoredTensor> {
  const declarations = new Declarations();
  new Llava(parseConfig(config, 'config.json'), declarations.root);
  const random = new Random(11);
  return new Map(
    declarations.all.map(({ name, shape }) => {
      const size = shape.reduce((product, one) => product * one, 1);
      const scale = shape.length > 1 ? 1.5 / Math.sqrt(size / (shape[0] as number)) : 0.1;
      const offset = /norm\d?\.weight$|layrnorm\.weight$|layernorm\.weight$/.test(name) ? 1 : 0;
      const values = Float32Array.from({ length: size }, () => offset + scale * random.normal());
      return [name, { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) }];
    }),
  );
}
