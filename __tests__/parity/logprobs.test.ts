import * as tf from '@tensorflow/tfjs';
import type { TokenLogprobs } from '../../lib/logprobs';
import { useBackend, withoutLeaks } from '../support/backends';
import { disposeImages, fixtureImages, fixtureModel, type RecordedCase } from '../support/fixture_model';
import { RecordedFile, readJson } from '../support/recorded';

const { cases } = readJson<{ cases: RecordedCase[] }>('gqa', 'reference.json');
const plain = cases.filter((one) => one.method === undefined);
const reference = new RecordedFile('gqa', 'reference.safetensors');

/** tfjs's own log-softmax of a row of logits [S, vocabulary]. */
async function logSoftmax(logits: tf.Tensor2D, row: number): Promise<Float32Array> {
  const result = tf.tidy(() => tf.logSoftmax(tf.slice(logits, [row, 0], [1, -1])));
  try {
    return Float32Array.from(await result.data());
  } finally {
    result.dispose();
  }
}

function expectLogprobs(actual: TokenLogprobs | undefined, expected: Float32Array): void {
  for (const { id, logprob } of [actual as TokenLogprobs, ...(actual as TokenLogprobs).top]) {
    expect(Math.abs(logprob - (expected[id] as number))).toBeLessThan(1e-4 * Math.max(1, Math.abs(expected[id] as number)));
  }
}

describe('log-probabilities of what the model writes', () => {
  beforeAll(() => useBackend('wasm'));

  it.each(plain)("$name: the first token's are the log-softmax of transformers' logits", async (one) => {
    await withoutLeaks(async () => {
      const model = fixtureModel('gqa', 'wasm', one.config);
      const images = fixtureImages('gqa', one.images);
      const { ids, logprobs } = await model.generate({ inputIds: one.input_ids, images }, { maxNewTokens: 1, logprobs: 20 });
      const { shape, values } = reference.get(`${one.name}.logits`);
      const logits = tf.tensor2d(values, shape.slice(-2) as [number, number]);
      const expected = await logSoftmax(logits, logits.shape[0] - 1);
      expect(logprobs).toHaveLength(1);
      expectLogprobs(logprobs?.[0], expected);
      expect(logprobs?.[0]?.top).toHaveLength(20);
      expect(logprobs?.[0]?.top[0]?.id).toBe(ids[0]);
      tf.dispose(logits);
      disposeImages(images);
      model.dispose();
    });
  });

  it('are those of running the whole text again, for packed requests and a drawn answer, and come with each token', async () => {
    await withoutLeaks(async () => {
      const model = fixtureModel('gqa', 'wasm');
      const images = fixtureImages('gqa', 2);
      const same = plain.filter(({ config }) => Object.keys(config).length === 0);
      const requests = same.map((one) => ({ inputIds: one.input_ids, images: images.slice(0, one.images) }));
      expect(requests.length).toBeGreaterThan(1);
      const streamed: (TokenLogprobs | undefined)[][] = requests.map(() => []);
      const stream = model.tokens(requests, { maxNewTokens: 4, logprobs: 2, temperature: 1.5, topK: 9, seed: 4 });
      let step = await stream.next();
      for (; !step.done; step = await stream.next()) streamed[step.value.request]?.push(step.value.logprobs);
      for (const [i, { ids, logprobs }] of step.value.entries()) {
        const request = requests[i] as (typeof requests)[number];
        expect(logprobs?.map(({ id }) => id)).toEqual([...ids]);
        expect(logprobs).toEqual(streamed[i]);
        const { logits } = await model.forward({ ...request, inputIds: [...request.inputIds, ...ids] });
        for (const [place, one] of (logprobs ?? []).entries()) {
          expectLogprobs(one, await logSoftmax(logits, logits.shape[0] - 1 - ids.length + place));
        }
        logits.dispose();
      }
      disposeImages(images);
      model.dispose();
    });
  });

  it('are absent unless asked for, and a count that is none is refused before any work', async () => {
    await withoutLeaks(async () => {
      const model = fixtureModel('gqa', 'wasm');
      const request = { inputIds: [1, 5, 6] };
      expect(await model.generate(request, { maxNewTokens: 1 })).not.toHaveProperty('logprobs');
      expect((await model.generate(request, { maxNewTokens: 1, logprobs: 0 })).logprobs?.[0]?.top).toEqual([]);
      for (const logprobs of [-1, 21, 1.5, Number.NaN, true as unknown as number]) {
        await expect(model.generate(request, { logprobs })).rejects.toMatchObject({ code: 'BAD_LOGPROBS' });
      }
      model.dispose();
    });
  });
});
