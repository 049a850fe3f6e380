import * as tf from '@tensorflow/tfjs';
import { activation } from '../../../layers/activation';
import { LayerNorm, RmsNorm } from '../../../layers/norm';
import type { Parameters } from '../../../layers/parameters';
import { Rotary } from '../../../layers/rotary';
import { binaryCrossEntropy, crossEntropy } from '../../../lib/train/losses';
import { lookup } from '../../../lib/train/variables';
import recorded from '../../fixtures/training.json';
import { useBackend, withoutLeaks } from '../../support/backends';
import { expectClose } from '../../support/compare';

const { gradients: torch } = recorded;
const SHAPE = [4, 8];

async function expectGradients(
  f: (rows: tf.Tensor2D, weight: tf.Tensor1D, shift: tf.Tensor1D) => tf.Tensor,
  expected: readonly number[][],
): Promise<void> {
  const rows = tf.tensor2d(torch.rows, [4, 8]);
  const weight = tf.tensor1d(torch.weight);
  const shift = tf.tensor1d(torch.shift);
  const dy = tf.tensor2d(torch.dy, [4, 8]);
  const inputs = [rows, weight, shift].slice(0, expected.length);
  const found = tf.tidy(() => tf.grads(() => tf.sum(tf.mul(f(rows, weight, shift), dy)) as tf.Scalar)(inputs));
  for (const [i, values] of expected.entries()) {
    await expectClose(found[i] as tf.Tensor, { shape: inputs[i]?.shape ?? [], values: Float32Array.from(values) }, `gradient ${i}`, 1e-5);
  }
  tf.dispose([rows, weight, shift, dy, ...found]);
}

function parametersOf(weight: tf.Tensor, bias: tf.Tensor): Parameters {
  const tensor = (name: string, shape: readonly number[]) => ({ name, shape, value: name === 'weight' ? weight : bias });
  return { tensor } as unknown as Parameters;
}

describe.each(['cpu', 'wasm'] as const)('stated gradients on %s equal those of torch', (backend) => {
  beforeAll(() => useBackend(backend));

  it('layer norm: an input, its weight and its bias', () =>
    withoutLeaks(() => expectGradients((x, w, b) => new LayerNorm(parametersOf(w, b), 8, 1e-5).apply(x), torch.layer_norm)));
  it('RMS norm', () => withoutLeaks(() => expectGradients((x, w, b) => new RmsNorm(parametersOf(w, b), 8, 1e-5).apply(x), torch.rms_norm)));
  it.each(['silu', 'quick_gelu', 'gelu'] as const)('%s', (name) => withoutLeaks(() => expectGradients((x) => activation(name)(x), torch[name])));

  it('rotary: the gradient turns back', () =>
    withoutLeaks(async () => {
      const rotary = new Rotary(4, { rope_type: 'default', rope_theta: 10000 });
      const table = rotary.table(Int32Array.from([0, 1, 5, 2]));
      await expectGradients((x) => rotary.apply(x, table), torch.rotary);
      tf.dispose([table.cos, table.sin]);
    }));

  it.each(['cross_entropy', 'binary_cross_entropy'] as const)('%s, whose targets are gone when the gradient is taken', (name) =>
    withoutLeaks(async () => {
      const logits = tf.tensor2d(torch.rows, [4, 8]);
      const loss = (x: tf.Tensor) =>
        tf.tidy(() => {
          const target = tf.tensor2d(torch.target, [4, 8]);
          if (name === 'binary_cross_entropy') return binaryCrossEntropy(x, target);
          return crossEntropy(x as tf.Tensor2D, target, tf.tensor2d(torch.row_weights, [4, 1]));
        });
      const { value, grad } = tf.valueAndGrad(loss)(logits);
      expect((await value.data())[0]).toBeCloseTo(torch[name].value, 4);
      await expectClose(grad, { shape: SHAPE, values: Float32Array.from(torch[name].gradient) }, name, 1e-5);
      tf.dispose([logits, value, grad]);
    }),
  );

  it('a looked-up table: each row gets the sum over its uses', () =>
    withoutLeaks(async () => {
      const table = tf.ones([3, 2]) as tf.Tensor2D;
      const grad = tf.grad((t) => tf.sum(tf.mul(lookup(t as tf.Tensor2D, Int32Array.from([2, 0, 2])), tf.tensor2d([1, 2, 3, 4, 5, 6], [3, 2]))))(
        table,
      );
      expect(Array.from(await grad.data())).toEqual([3, 4, 0, 0, 6, 8]);
      tf.dispose([table, grad]);
    }));
});
