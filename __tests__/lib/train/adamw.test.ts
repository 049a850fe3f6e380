import * as tf from '@tensorflow/tfjs';
import { ADAMW, AdamW, cosineRate } from '../../../lib/train/adamw';
import { VariableSource } from '../../../lib/train/variables';
import recorded from '../../fixtures/training.json';
import { useBackend, withoutLeaks } from '../../support/backends';
import { expectClose } from '../../support/compare';

const { adamw: torch } = recorded;

/** The recorded model: y = x W^T + b. */
function linear(): { source: VariableSource; loss: (x: tf.Tensor2D, y: tf.Tensor2D) => tf.Scalar } {
  const source = new VariableSource([[/./, { value: 0 }]], 1);
  const matrix = source.parameters.matrix('weight', 4, 3);
  const bias = source.parameters.tensor('bias', [3]);
  source.import(
    new Map([
      ['weight', { shape: [3, 4], data: Float32Array.from(torch.matrix) }],
      ['bias', { shape: [3], data: Float32Array.from(torch.bias) }],
    ]),
  );
  return { source, loss: (x, y) => tf.sum(tf.square(tf.sub(tf.add(matrix.apply(x), bias.value), y))) as tf.Scalar };
}

beforeAll(() => useBackend('cpu'));

it('takes the steps of torch: clipped gradients, decay on the matrix alone, losses and norms on the way', () =>
  withoutLeaks(async () => {
    const { source, loss } = linear();
    const optimizer = new AdamW(source.trainables, ADAMW);
    const [x, y] = [tf.tensor2d(torch.x, [5, 4]), tf.tensor2d(torch.y, [5, 3])];
    for (const [i, rate] of torch.rates.entries()) {
      const value = optimizer.accumulate(() => loss(x, y));
      const norm = optimizer.step(rate);
      expect((await value.data())[0]).toBeCloseTo(torch.losses[i] as number, 3);
      expect((await norm.data())[0]).toBeCloseTo(torch.norms[i] as number, 3);
      tf.dispose([value, norm]);
    }
    const after = await source.export();
    for (const [name, values, shape] of [
      ['weight', torch.matrix_after, [3, 4]],
      ['bias', torch.bias_after, [3]],
    ] as const) {
      const found = tf.tensor(after.get(name)?.data as Float32Array);
      await expectClose(found, { shape: [shape.reduce((a, b) => a * b, 1)], values: Float32Array.from(values) }, name, 1e-5);
      found.dispose();
    }
    tf.dispose([x, y]);
    optimizer.dispose();
    source.dispose();
  }));

it('two micro-batches step like their mean', async () => {
  const whole = linear();
  const halves = linear();
  const optimizers = [new AdamW(whole.source.trainables), new AdamW(halves.source.trainables)] as const;
  const [x, y] = [tf.tensor2d(torch.x, [5, 4]), tf.tensor2d(torch.y, [5, 3])];
  optimizers[0].accumulate(() => tf.div(whole.loss(x, y), 2)).dispose();
  for (const [from, rows] of [
    [0, 2],
    [2, 3],
  ] as const) {
    optimizers[1].accumulate(() => halves.loss(tf.slice(x, [from, 0], [rows, -1]), tf.slice(y, [from, 0], [rows, -1]))).dispose();
  }
  for (const optimizer of optimizers) optimizer.step(0.1).dispose();
  const [a, b] = [await whole.source.export(), await halves.source.export()];
  for (const [i, value] of (a.get('weight')?.data ?? []).entries()) expect(b.get('weight')?.data[i]).toBeCloseTo(value, 5);
});

it('a state that was taken up goes on as if it had not stopped', async () => {
  const [x, y] = [tf.tensor2d(torch.x, [5, 4]), tf.tensor2d(torch.y, [5, 3])];
  const first = linear();
  const optimizer = new AdamW(first.source.trainables);
  const step = (model: ReturnType<typeof linear>, by: AdamW) => {
    by.accumulate(() => model.loss(x, y)).dispose();
    by.step(0.05).dispose();
  };
  step(first, optimizer);
  const second = linear();
  second.source.import(await first.source.export());
  const resumed = new AdamW(second.source.trainables);
  resumed.restore(optimizer.state.moments, optimizer.state.squares, optimizer.steps);
  step(first, optimizer);
  step(second, resumed);
  expect(Array.from((await second.source.export()).get('weight')?.data ?? [])).toEqual(
    Array.from((await first.source.export()).get('weight')?.data ?? []),
  );
});

it('the learning rate rises to its peak, then falls to nothing', () => {
  expect([0, 0.05, 0.1, 0.55, 1].map((progress) => cosineRate(2, progress, 0.1))).toEqual([0, 1, 2, expect.closeTo(1, 10), 0]);
});
