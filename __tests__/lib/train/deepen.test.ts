import * as tf from '@tensorflow/tfjs';
import { Random } from '../../../lib/random';
import { layoutScene } from '../../../lib/scenes';
import { DecoderModel } from '../../../lib/train/decoder_model';
import { deepened } from '../../../lib/train/deepen';
import { questionBatch } from '../../../lib/train/questions_batch';
import { DECODER_INITIAL, TEXT_SHAPE, WIDTH } from '../../../lib/train/recipe';
import { VariableSource } from '../../../lib/train/variables';
import { useBackend } from '../../support/backends';
import { expectClose } from '../../support/compare';

beforeAll(() => useBackend('cpu')); // wasm has not every gradient

it('a deepened decoder computes what the shallow one does, and every added block can learn', async () => {
  const shallow = new VariableSource(DECODER_INITIAL, 3);
  const model = new DecoderModel(shallow.parameters);
  const deep = new VariableSource(DECODER_INITIAL, 4);
  const deepModel = new DecoderModel(deep.parameters, { ...TEXT_SHAPE, num_hidden_layers: 8 });
  const taken = deep.import(deepened(await shallow.export(), 8));
  expect(taken).toBe(deep.trainables.length);
  const batch = questionBatch([layoutScene(5)], new Random(1));
  const visual = tf.randomNormal([6, WIDTH], 0, 0.5, 'float32', 9) as tf.Tensor2D;
  await expectClose(deepModel.logits(visual, batch), model.logits(visual, batch), 'logits', 1e-5);
  const written = deep.trainables.filter(({ name }) => /layers\.[1357]\.(self_attn\.o|mlp\.down)_proj/.test(name)).map(({ variable }) => variable);
  const { grads } = tf.variableGrads(() => deepModel.loss(visual, batch), written);
  const sizes = await Promise.all(Object.values(grads).map(async (grad) => (await tf.max(tf.abs(grad)).data())[0] as number));
  expect(sizes).toHaveLength(8);
  for (const size of sizes) expect(size).toBeGreaterThan(0);
});

it('a number of blocks that is no multiple is refused', async () => {
  const shallow = new VariableSource(DECODER_INITIAL, 3);
  new DecoderModel(shallow.parameters);
  const arrays = await shallow.export();
  expect(() => deepened(arrays, 6)).toThrow(expect.objectContaining({ code: 'TRAIN_SHAPE' }));
});
