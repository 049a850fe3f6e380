import * as tf from '@tensorflow/tfjs';
import { ACTIVATION_NAMES, activation } from '../../layers/activation';
import { ConfigError } from '../../layers/errors';
import { LayerNorm, RmsNorm } from '../../layers/norm';
import { type RopeParameters, Rotary } from '../../layers/rotary';
import { BACKENDS, useBackend, withoutLeaks } from '../support/backends';
import { expectClose } from '../support/compare';
import { HeldParameters } from '../support/held_parameters';
import { RecordedFile, readJson } from '../support/recorded';

const recorded = new RecordedFile('functions.safetensors');

interface RopeCase {
  readonly parameters: RopeParameters;
  readonly head_dim: number;
  readonly positions: readonly number[];
}
const ropes = Object.entries(readJson<Record<string, RopeCase>>('rope.json'));

/** The values of y = f(x, weights) and, where sum(y dy) is differentiated, all gradients, against torch's. */
async function checkFunction(name: string, weights: readonly string[], f: (x: tf.Tensor, ...weights: tf.Tensor[]) => tf.Tensor): Promise<void> {
  const inputs = ['x', ...weights].map((part) => recorded.tensor(`${name}.${part}`));
  const dy = recorded.tensor(`${name}.dy`);
  const [x, ...rest] = inputs as [tf.Tensor, ...tf.Tensor[]];
  await withoutLeaks(async () => {
    const y = tf.tidy(() => f(x, ...rest));
    await expectClose(y, recorded.get(`${name}.y`), name);
    const gradients = tf.grads((...args) => tf.sum(tf.mul(f(args[0] as tf.Tensor, ...args.slice(1)), dy)))(inputs);
    for (const [i, part] of ['x', ...weights].entries()) {
      await expectClose(gradients[i] as tf.Tensor, recorded.get(`${name}.d${part}`), `gradient of ${name} by ${part}`);
    }
    tf.dispose([y, ...gradients]);
  });
  tf.dispose([...inputs, dy]);
}

describe.each(BACKENDS)('single functions on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(ACTIVATION_NAMES)('%s has the values and the gradient of torch, also far from zero', async (name) => {
    await checkFunction(name, [], activation(name));
  });

  it('LayerNorm takes the biased variance with the epsilon inside the root, and states its gradients rightly', async () => {
    await checkFunction('layer_norm', ['weight', 'bias'], (x, weight, bias) =>
      new LayerNorm(giving({ weight, bias }), 24, 1e-5).apply(x as tf.Tensor2D),
    );
  });

  it('RmsNorm takes no mean, and states its gradients rightly', async () => {
    await checkFunction('rms_norm', ['weight'], (x, weight) => new RmsNorm(giving({ weight }), 24, 1e-6).apply(x as tf.Tensor2D));
  });

  it.each(ropes)(
    '%s rotary tables and turns are those of transformers, up to position 100,000',
    async (name, { parameters, head_dim, positions }) => {
      const rotary = new Rotary(head_dim, parameters);
      const table = rotary.table(Int32Array.from(positions));
      await expectClose(table.cos.squeeze([1]), recorded.get(`rope.${name}.cos`), `${name} cosines`);
      await expectClose(table.sin.squeeze([1]), recorded.get(`rope.${name}.sin`), `${name} sines`);
      await checkFunction(`rope.${name}`, [], (x) => rotary.apply(x as tf.Tensor2D, table));
      tf.dispose([table.cos, table.sin]);
    },
  );

  it('a turned query and key depend on the distance of their positions alone', async () => {
    const rotary = new Rotary(8, { rope_type: 'default', rope_theta: 10000 });
    const product = (queryPosition: number, keyPosition: number) =>
      tf.tidy(() => {
        const turn = (x: tf.Tensor2D, position: number) => rotary.apply(x, rotary.table(Int32Array.of(position)));
        const [query, key] = [tf.tensor2d([[1, -2, 3, 0.5, -1, 2, 0.25, 1]]), tf.tensor2d([[0.5, 1, -1, 2, 3, -0.5, 1, -2]])];
        return tf.sum(tf.mul(turn(query, queryPosition), turn(key, keyPosition)));
      });
    await expectClose(product(17, 11), product(106, 100), 'the product at distance 6');
  });
});

it('an unknown activation is refused with the names that are known', () => {
  expect(() => activation('swish2')).toThrow(ConfigError);
  expect(() => activation('swish2')).toThrow(/swish2.*quick_gelu/s);
  expect(() => activation('constructor')).toThrow(/UNKNOWN|Unknown activation "constructor"/);
});

function giving(tensors: Record<string, tf.Tensor>): HeldParameters {
  return new (class extends HeldParameters {
    override tensor(name: string, shape: readonly number[]): { name: string; shape: readonly number[]; value: tf.Tensor } {
      return { name, shape, value: tensors[name] as tf.Tensor };
    }
  })(() => {
    throw new Error('unused');
  });
}
