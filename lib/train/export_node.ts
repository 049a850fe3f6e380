import * as fs from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { openDirectory } from '../../weights/byte_directory_node';
import { CHECKSUMS_FILE, formatChecksums } from '../../weights/checksums';
import { writeSafetensors } from '../../weights/safetensors_node';
import { PATCH_COUNT } from '../scenes/constants';
import { BOS, buildProcessorFiles, EOS, IMAGE, PAD, tokenId } from '../scenes/tokenizer';
import { LANGUAGE_PATH, PROJECTOR_PATH, TEXT_SHAPE, VISION_PATH, VISION_SHAPE } from './recipe';
import type { NamedArrays } from './variables';

/** Prompt, 256 visual tokens and an answer fit many times. */
const CONTEXT = 2048;

function configJson(decoderBlocks: number): object {
  const ids = { bos_token_id: tokenId(BOS), eos_token_id: tokenId(EOS), pad_token_id: tokenId(PAD) };
  return {
    architectures: ['LlavaForConditionalGeneration'],
    dtype: 'float16',
    image_seq_length: PATCH_COUNT,
    image_token_index: tokenId(IMAGE),
    model_type: 'llava',
    multimodal_projector_bias: true,
    projector_hidden_act: 'gelu',
    text_config: { ...TEXT_SHAPE, num_hidden_layers: decoderBlocks, ...ids, dtype: 'float16', max_position_embeddings: CONTEXT, model_type: 'llama' },
    tie_word_embeddings: TEXT_SHAPE.tie_word_embeddings,
    vision_config: { ...VISION_SHAPE, dtype: 'float16', model_type: 'clip_vision_model', projection_dim: VISION_SHAPE.hidden_size },
    vision_feature_layer: -2,
    vision_feature_select_strategy: 'default',
  };
}

/** The tensors of the shipped model among those of stages 1 and 2, in the shapes that transformers expects. */
function shipped(arrays: NamedArrays): Map<string, tf.Tensor> {
  const tensors = new Map<string, tf.Tensor>();
  const { hidden_size: width, num_channels: channels, patch_size: patch } = VISION_SHAPE;
  for (const [name, { shape, data }] of arrays) {
    if (![VISION_PATH, PROJECTOR_PATH, LANGUAGE_PATH].some((path) => name.startsWith(`${path}.`))) continue;
    const stored = name.endsWith('patch_embedding.weight') ? [width, channels, patch, patch] : [...shape];
    tensors.set(name, tf.tensor(data, stored));
  }
  // CLIP's last norm: LLaVA never runs it, transformers wants it in the file.
  tensors.set(`${VISION_PATH}.post_layernorm.weight`, tf.ones([width]));
  tensors.set(`${VISION_PATH}.post_layernorm.bias`, tf.zeros([width]));
  return tensors;
}

/** Writes a directory that `transformers` and this package load: weights in 16 bit, configuration, tokenizer, preprocessing. */
export async function exportModel(
  folder: string,
  arrays: NamedArrays,
  metadata: Readonly<Record<string, string>>,
  decoderBlocks: number = TEXT_SHAPE.num_hidden_layers,
): Promise<void> {
  fs.mkdirSync(folder, { recursive: true });
  const tensors = shipped(arrays);
  try {
    await writeSafetensors(path.join(folder, 'model.safetensors'), tensors, { format: 'pt', ...metadata }, { dtype: 'F16' });
  } finally {
    tf.dispose([...tensors.values()]);
  }
  const generation = { bos_token_id: tokenId(BOS), eos_token_id: tokenId(EOS), pad_token_id: tokenId(PAD), do_sample: false, max_new_tokens: 4 };
  const files: Record<string, object | string> = {
    'config.json': configJson(decoderBlocks),
    'generation_config.json': generation,
    ...buildProcessorFiles(),
  };
  for (const [name, content] of Object.entries(files)) {
    const text = typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`;
    fs.writeFileSync(path.join(folder, name), text);
  }
  const names = ['model.safetensors', ...Object.keys(files)].sort();
  fs.writeFileSync(path.join(folder, CHECKSUMS_FILE), await formatChecksums(await openDirectory(folder), names));
}
