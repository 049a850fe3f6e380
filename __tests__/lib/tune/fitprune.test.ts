import * as tf from '@tensorflow/tfjs';
import { Llama } from '../../../layers/llama';
import { prefill } from '../../../lib/decoder';
import type { EncodedRequest } from '../../../lib/llava';
import { Pacer } from '../../../lib/pacer';
import type { Pruner } from '../../../lib/prune/types';
import { Sequence } from '../../../lib/sequence';
import { tuneFitPrune } from '../../../lib/tune/fitprune';
import type { TuneSet } from '../../../lib/tune/tune_set';
import { BACKENDS, useBackend } from '../../support/backends';
import { HeldParameters } from '../../support/held_parameters';
import { RecordedFile, readJson } from '../../support/recorded';
import { ORACLE_SHAPE } from '../prune/decoder_oracle';
import { request } from '../prune/views';

const FITS = readJson<{ average: number; recipe: number[]; entering: number }[]>('methods', 'fitprune_fit.json');
const PATCHES = 24;
const FIRST = 5;

/** Not on the cpu backend: it is some hundred passes; the operations have tests there. */
const FAST = BACKENDS.filter((backend) => backend !== 'cpu');

describe.each(FAST)("FitPrune's fitting, worked out by hand in numpy, on %s", (backend) => {
  let parameters: HeldParameters;
  let set: TuneSet;
  let samples: tf.Tensor2D[];

  beforeAll(async () => {
    await useBackend(backend);
    const file = new RecordedFile('methods', 'decoder.safetensors');
    parameters = new HeldParameters((key) => file.get(key));
    const llama = new Llama(parameters, ORACLE_SHAPE);
    samples = tf.unstack(file.tensor('samples')) as tf.Tensor2D[];
    set = recordedSet(llama, samples);
  });
  afterAll(() => {
    parameters.dispose();
    tf.dispose(samples);
  });

  it.each(FITS)('finds the recipe for an average of $average of 24 tokens', async ({ average, recipe }) => {
    const before = tf.memory().numTensors;
    let seen: [number, number] = [0, 0];
    const progress = (done: number, total: number) => {
      expect(done).toBeGreaterThanOrEqual(seen[0]);
      seen = [done, total];
    };
    expect(await tuneFitPrune.search(set, { average, options: {}, progress })).toEqual({ method: 'fitprune', recipe, patches: PATCHES });
    expect(seen[0]).toBe(seen[1]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('says how few tokens it can come down to', async () => {
    const search = tuneFitPrune.search(set, { average: 4, options: {}, progress: () => {} });
    await expect(search).rejects.toMatchObject({ name: 'PruneError', code: 'BUDGET_UNREACHABLE' });
  });

  it('refuses a precision that is none', async () => {
    const search = tuneFitPrune.search(set, { average: 12, options: { precision: 0 }, progress: () => {} });
    await expect(search).rejects.toMatchObject({ code: 'SEARCH_OPTION', message: expect.stringContaining('"precision" is 0') });
  });
});

/** The recorded embeddings in place of prompts: what a `TuneSet` does of a model with an encoder, of a decoder alone. */
function recordedSet(llama: Llama, samples: readonly tf.Tensor2D[]): TuneSet {
  const prompts = samples.map(() => ({ images: [{ crops: [{}] }] }) as unknown as EncodedRequest);
  const run = async (prompt: EncodedRequest, pruner: Pruner, use: () => Promise<unknown>) => {
    const states = samples[prompts.indexOf(prompt)] as tf.Tensor2D;
    const sequence = new Sequence(llama.newCaches(), pruner.positions);
    const visualRows = Int32Array.from({ length: PATCHES }, (_, i) => FIRST + i);
    const pruning = { run: pruner.begin(request([PATCHES])), blockInput: false };
    const result = await prefill(llama, [{ sequence, states, visualRows, pruning }], { pacer: new Pacer() });
    result.states.dispose();
    sequence.dispose();
    return use();
  };
  return { facts: { patches: PATCHES, decoderBlocks: llama.blocks.length }, prompts, run } as unknown as TuneSet;
}
