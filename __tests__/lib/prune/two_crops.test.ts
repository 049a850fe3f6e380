import * as tf from '@tensorflow/tfjs';
import { Llama } from '../../../layers/llama';
import type { PruneOptions } from '../../../lib/prune/registry';
import { useBackend } from '../../support/backends';
import { expectSame } from '../../support/compare';
import { HeldParameters } from '../../support/held_parameters';
import { RecordedFile } from '../../support/recorded';
import { ORACLE_SHAPE, run } from './decoder_oracle';

/** Options for one crop, and those that come to the same for two halves of it, where they differ. */
const CASES: readonly (readonly [PruneOptions, PruneOptions?])[] = [
  [
    { method: 'fastv', tokens: 12 },
    { method: 'fastv', tokens: 6 },
  ],
  [{ method: 'pyramiddrop', layers: [1, 3], ratio: 0.5 }],
  [{ method: 'sparsevlm', layers: [1, 3], ratios: [0.5, 0.25] }],
  [{ method: 'sparsevlm', version: 'plus', layers: [1, 3], ratios: [0.5, 0.25] }],
  [{ method: 'sparsevlm', version: 1, layers: [1, 3] }],
  [
    { method: 'dart', tokens: 14 },
    { method: 'dart', tokens: 7 },
  ],
  [{ method: 'himap', ratios: [0.5, 0.25] }],
  [{ method: 'fitprune', recipe: [6, 0, 4, 2, 0, 0], patches: 24 }],
];

describe('inside the decoder the tokens of two crops are ranked together, for the sum of their counts', () => {
  let parameters: HeldParameters;
  let llama: Llama;
  let states: tf.Tensor2D;

  beforeAll(async () => {
    await useBackend('wasm');
    const file = new RecordedFile('methods', 'decoder.safetensors');
    parameters = new HeldParameters((key) => file.get(key));
    llama = new Llama(parameters, ORACLE_SHAPE);
    states = file.tensor('embeddings') as tf.Tensor2D;
  });
  afterAll(() => {
    parameters.dispose();
    states.dispose();
  });

  it.each(CASES.map(([one, two = one]) => [JSON.stringify(one), one, two] as const))('as those of one are: %s', async (_, one, two) => {
    const whole = await run(llama, states, one);
    const halves = await run(llama, states, two, undefined, 2);
    expect(whole.left.length).toBeGreaterThan(0);
    expect(halves.left).toEqual(whole.left);
    await expectSame(halves.last, whole.last, 'last state');
    tf.dispose([whole.last, halves.last]);
  });
});
