import { existsSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import { type BackendName, loadModel, type VisionLanguageModel, type WeightDtype } from '../lib/index';
import { serve } from './small_worker';

/** Worker of `bench/small.ts`: this package. Arguments: directory, backend, dtypes. */
async function main([directory, backend, ...dtypes]: readonly string[]): Promise<void> {
  const models = new Map<string, VisionLanguageModel>();
  for (const dtype of dtypes) {
    // a directory of that name beside the one in float32 has the weights as they are to be held
    const own = `${directory}/../${dtype}`;
    const model = await loadModel(existsSync(`${own}/config.json`) ? own : (directory as string), {
      backend: backend as BackendName,
      dtype: dtype as WeightDtype,
    });
    models.set(dtype, model);
  }
  const weights = Object.fromEntries(Array.from(models, ([dtype, { config }]) => [dtype, bytesOf(dtype, config.text_config)]));
  await serve({ version: `tfjs ${tf.version.tfjs}`, models: weights }, async ({ model, ids, newTokens }) => {
    const options = { maxNewTokens: newTokens, minNewTokens: newTokens };
    const result = await (models.get(model) as VisionLanguageModel).generate({ inputIds: ids }, options);
    return { first: result.timing.firstToken, rest: result.timing.decode, ids: Array.from(result.ids) };
  });
}

type Shape = VisionLanguageModel['config']['text_config'];

/** Bytes of matrices that are read for a token. */
function bytesOf(dtype: string, shape: Shape): number {
  const { hidden_size: width, intermediate_size: inner, num_attention_heads: heads, num_key_value_heads: keyValueHeads, head_dim: dim } = shape;
  const block = 2 * width * dim * (heads + keyValueHeads) + 3 * width * inner;
  const size: Readonly<Record<string, number>> = { float32: 4, bfloat16: 2, float16: 2, int8: 1 };
  return (shape.num_hidden_layers * block + shape.vocab_size * width) * (size[dtype] ?? 4);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
