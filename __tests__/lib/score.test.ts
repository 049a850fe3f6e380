import * as tf from '@tensorflow/tfjs';
import type { LogitsProcessor } from '../../lib/logits_processors';
import type { PruneOptions } from '../../lib/prune/registry';
import type { ContinuationScore } from '../../lib/score';
import type { TokenModel } from '../../lib/token_model';
import type { TokenRequest } from '../../lib/token_request';
import { useBackend, withoutLeaks } from '../support/backends';
import { disposeImages, fixtureImages, fixtureModel, oneTokenAnImage, type RecordedCase } from '../support/fixture_model';
import { readJson } from '../support/recorded';

const IMAGE = 60;
const ONE = readJson<{ cases: RecordedCase[] }>('gqa', 'reference.json').cases.find(({ name }) => name === 'default') as RecordedCase;
/** More than are packed at once, and of all lengths. */
const CONTINUATIONS = [[5, 6, 7], [8], [5, 6, 9, 10, 11, 12], [8, 8], [13], [5], [20, 21, 22], [30, 31], [5, 6, 7, 8], [40]];

async function withModel(run: (model: TokenModel, request: TokenRequest) => Promise<void>): Promise<void> {
  await withoutLeaks(async () => {
    const model = fixtureModel('gqa', 'wasm', ONE.config);
    const images = fixtureImages('gqa', ONE.images);
    try {
      await run(model, { inputIds: oneTokenAnImage(ONE.input_ids, IMAGE), images });
    } finally {
      disposeImages(images);
      model.dispose();
    }
  });
}

/** The same by running prompt and continuation at once, without a cache, and tfjs's own log-softmax. */
async function byForward(model: TokenModel, request: TokenRequest, ids: readonly number[], prune: PruneOptions): Promise<number[]> {
  const { logits } = await model.forward({ ...request, inputIds: [...request.inputIds, ...ids] }, { prune });
  const all = tf.tidy(() => tf.logSoftmax(tf.slice(logits, [logits.shape[0] - 1 - ids.length, 0], [ids.length, -1])));
  const rows = (await all.array()) as number[][];
  tf.dispose([logits, all]);
  return ids.map((id, i) => rows[i]?.[id] as number);
}

/** The same as generation would have it: token after token, each forced. */
async function byGeneration(model: TokenModel, request: TokenRequest, ids: readonly number[], prune: PruneOptions): Promise<number[]> {
  const forced: LogitsProcessor = (logits, { ids: written }) => {
    logits.fill(Number.NEGATIVE_INFINITY);
    logits[ids[written.length] as number] = 0;
  };
  const { logprobs } = await model.generate(request, { prune, maxNewTokens: ids.length, logitsProcessor: forced, logprobs: 0 });
  return (logprobs ?? []).map(({ logprob }) => logprob);
}

function expectScore(score: ContinuationScore | undefined, ids: readonly number[], expected: readonly number[]): void {
  expect([...(score?.ids ?? [])]).toEqual(ids);
  for (const [i, value] of expected.entries())
    expect(Math.abs((score?.logprobs[i] as number) - value)).toBeLessThan(1e-4 * Math.max(1, Math.abs(value)));
  const sum = expected.reduce((total, one) => total + one, 0);
  expect(score?.logprob).toBeCloseTo(sum, 3);
  expect(score?.meanLogprob).toBeCloseTo(sum / ids.length, 3);
}

const SELECTING: readonly PruneOptions[] = [
  { method: 'none' },
  { method: 'vispruner', tokens: 4 },
  { method: 'fastervlm', tokens: 5 },
  { method: 'dedup', tokens: 4 },
  { method: 'random', tokens: 6, seed: 2 },
];
const REDUCING: readonly PruneOptions[] = [
  { method: 'fastv', layer: 1, tokens: 5 },
  { method: 'fastv', layer: 2, tokens: 1 },
];

describe('scores of continuations', () => {
  beforeAll(() => useBackend('wasm'));

  it.each(SELECTING)('are those of running prompt and continuation at once (%p)', async (prune) => {
    await withModel(async (model, request) => {
      const { scores } = await model.score(request, CONTINUATIONS, { prune });
      expect(scores).toHaveLength(CONTINUATIONS.length);
      for (const [i, ids] of CONTINUATIONS.entries()) expectScore(scores[i], ids, await byForward(model, request, ids, prune));
    });
  });

  it.each([...SELECTING, ...REDUCING])('are those of generation that is forced to write them (%p)', async (prune) => {
    await withModel(async (model, request) => {
      const { scores } = await model.score(request, CONTINUATIONS, { prune });
      for (const i of [0, 2, 3]) {
        const ids = CONTINUATIONS[i] as number[];
        expectScore(scores[i], ids, await byGeneration(model, request, ids, prune));
      }
    });
  });

  it('are the same alone as together, and the prompt is used once', async () => {
    await withModel(async (model, request) => {
      const together = await model.score(request, CONTINUATIONS);
      for (const [i, ids] of CONTINUATIONS.entries()) {
        const alone = await model.score(request, [ids]);
        expectScore(alone.scores[0], ids, [...(together.scores[i]?.logprobs ?? [])]);
        expect(alone.visual).toEqual(together.visual);
        expect({ ...alone.usage, newTokens: 0 }).toEqual({ ...together.usage, newTokens: 0 });
      }
      expect(together.usage.newTokens).toBe(CONTINUATIONS.flat().length);
    });
  });

  it('are the same for one that is longer than the rows of logits that are held at once', async () => {
    await withModel(async (model, request) => {
      const ids = Array.from({ length: 70 }, (_, i) => 5 + (i % 40));
      const { scores } = await model.score(request, [ids, [9], ids.slice(0, 66)]);
      const expected = await byForward(model, request, ids, { method: 'none' });
      expectScore(scores[0], ids, expected);
      expectScore(scores[2], ids.slice(0, 66), expected.slice(0, 66));
    });
  });

  it('leave to the image token, which is no text, what the whole vocabulary lacks of certainty', async () => {
    await withModel(async (model, request) => {
      const all = Array.from({ length: model.config.text_config.vocab_size }, (_, id) => id).filter((id) => id !== IMAGE);
      const { scores } = await model.score(
        request,
        all.map((id) => [id]),
      );
      const { logits } = await model.forward(request);
      const image = tf.tidy(() => tf.slice(tf.softmax(tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1])), [0, IMAGE], [1, 1]));
      const total = scores.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
      expect(total + ((await image.data())[0] as number)).toBeCloseTo(1, 5);
      tf.dispose([logits, image]);
    });
  });

  it.each<[string, readonly (readonly number[])[], string]>([
    ['no continuation', [], 'BAD_CONTINUATION'],
    ['an empty one', [[5], []], 'BAD_CONTINUATION'],
    ['an id past the vocabulary', [[5, 1000]], 'BAD_CONTINUATION'],
    ['a negative id', [[-1]], 'BAD_CONTINUATION'],
    ['half an id', [[1.5]], 'BAD_CONTINUATION'],
    ['an image token', [[5, IMAGE]], 'BAD_CONTINUATION'],
    ['one that is longer than the context', [new Array<number>(100_000).fill(5)], 'CONTEXT_OVERFLOW'],
  ])('%s is refused before any work', async (_what, continuations, code) => {
    await withModel(async (model, request) => {
      const before = tf.memory().numTensors;
      await expect(model.score(request, continuations)).rejects.toMatchObject({ code });
      expect(tf.memory().numTensors).toBe(before);
    });
  });

  it('leave nothing behind when they are aborted, at any moment', async () => {
    await withModel(async (model, request) => {
      const before = tf.memory().numTensors;
      for (const after of [0, 5, 20, 60]) {
        const controller = new AbortController();
        let taps = 0;
        const tap = () => {
          if (taps++ === after) controller.abort(new Error('enough'));
        };
        await expect(model.score(request, CONTINUATIONS, { signal: controller.signal, tap })).rejects.toThrow('enough');
        expect(tf.memory().numTensors).toBe(before);
      }
    });
  });
});
