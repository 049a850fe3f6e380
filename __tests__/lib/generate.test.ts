import * as tf from '@tensorflow/tfjs';
import { buildModel } from '../../lib/build';
import type { PreparedImage } from '../../lib/image/types';
import type { TokenModel } from '../../lib/token_model';

const IMAGE = 3;
const CONFIG = {
  model_type: 'llava',
  image_token_index: IMAGE,
  vision_config: { hidden_size: 32, intermediate_size: 48, num_hidden_layers: 3, num_attention_heads: 4, image_size: 32, patch_size: 8 },
  text_config: {
    model_type: 'llama',
    vocab_size: 40,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 96,
  },
};

let model: TokenModel;

beforeAll(async () => {
  model = await buildModel(CONFIG, { seed: 5, backend: 'wasm' });
});

afterAll(() => model.dispose());

/** 16 patches a crop. */
function image(seed: number, crops = 1): PreparedImage {
  return {
    pixelValues: tf.randomNormal([crops, 32, 32, 3], 0, 1, 'float32', seed),
    originalSize: { width: 32, height: 32 },
    grid: { rows: 4, columns: 4 },
  };
}

async function withImages<T>(images: readonly PreparedImage[], use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } finally {
    for (const { pixelValues } of images) pixelValues.dispose();
  }
}

const PROMPT = [1, 7, IMAGE, 9, 11, 13];

describe('generation', () => {
  it('writes what running the whole text again for each token would write', async () => {
    const one = image(1);
    await withImages([one], async () => {
      const { ids } = await model.generate({ inputIds: PROMPT, images: [one] }, { maxNewTokens: 8 });
      const text = [...PROMPT];
      for (let i = 0; i < 8; i++) {
        const { logits } = await model.forward({ inputIds: text, images: [one] });
        const last = tf.tidy(() => tf.argMax(tf.slice(logits, [logits.shape[0] - 1, 0], [1, -1]), 1));
        text.push((await last.data())[0] as number);
        tf.dispose([logits, last]);
      }
      expect(Array.from(ids)).toEqual(text.slice(PROMPT.length));
    });
  });

  it('gives packed requests of unlike lengths and images what each gets alone', async () => {
    const [one, two] = [image(1), image(2)];
    await withImages([one, two], async () => {
      const requests = [{ inputIds: PROMPT, images: [one] }, { inputIds: [1, 5, 6] }, { inputIds: [1, IMAGE, 4, IMAGE, 8], images: [two, one] }];
      const options = { maxNewTokens: 6, prune: { method: 'vispruner', tokens: 5 } } as const;
      const together = await model.generateBatch(requests, options);
      for (const [i, request] of requests.entries()) {
        const alone = await model.generate(request, options);
        expect(Array.from(together[i]?.ids ?? [])).toEqual(Array.from(alone.ids));
        expect(together[i]?.usage).toEqual(alone.usage);
      }
    });
  });

  it('draws the same with one seed and otherwise with another, and top-k 1 or a tiny top-p is greedy', async () => {
    const request = { inputIds: [1, 5, 6, 7] };
    const draw = async (options: object) => Array.from((await model.generate(request, { maxNewTokens: 12, ...options })).ids).join();
    const hot = { temperature: 3, seed: 1 };
    expect(await draw(hot)).toBe(await draw(hot));
    expect(await draw(hot)).not.toBe(await draw({ ...hot, seed: 2 }));
    const greedy = await draw({});
    expect(await draw({ ...hot, topK: 1 })).toBe(greedy);
    expect(await draw({ ...hot, topP: 1e-9 })).toBe(greedy);
  });

  it('stops where the consumer says so, for that request alone', async () => {
    const stream = model.tokens([{ inputIds: [1, 5] }, { inputIds: [1, 6] }], { maxNewTokens: 4 });
    const seen = [0, 0];
    let step = await stream.next(false);
    while (!step.done) {
      seen[step.value.request] = (seen[step.value.request] as number) + 1;
      step = await stream.next(step.value.request === 0 && seen[0] === 2);
    }
    expect(seen).toEqual([2, 4]);
    expect(step.value.map(({ finishReason }) => finishReason)).toEqual(['stop', 'length']);
  });

  it('ends at an end-of-sequence id and leaves it out', async () => {
    const { ids: free } = await model.generate({ inputIds: [1, 5, 6, 7] }, { maxNewTokens: 8 });
    const end = free[3] as number;
    const ending = await buildModel({ ...CONFIG, text_config: { ...CONFIG.text_config, eos_token_id: end } }, { seed: 5 });
    try {
      const { ids, finishReason } = await ending.generate({ inputIds: [1, 5, 6, 7] }, { maxNewTokens: 8 });
      expect(Array.from(ids)).toEqual(Array.from(free.slice(0, free.indexOf(end))));
      expect(finishReason).toBe('stop');
    } finally {
      ending.dispose();
    }
  });

  it('keeps the class token beside the chosen patches where the checkpoint feeds it to the projector', async () => {
    const full = await buildModel({ ...CONFIG, vision_feature_select_strategy: 'full' }, { seed: 5 });
    const one = image(4);
    await withImages([one], async () => {
      const { usage, visual } = await full.generate(
        { inputIds: PROMPT, images: [one] },
        { maxNewTokens: 1, prune: { method: 'vispruner', tokens: 4 } },
      );
      expect(usage).toMatchObject({ visualTokens: 5, visualTokensBefore: 17 });
      expect(visual[0]).toMatchObject({ tokens: 5 });
      const all = await full.forward({ inputIds: PROMPT.flatMap((id) => (id === IMAGE ? new Array<number>(17).fill(id) : [id])), images: [one] });
      expect(all.logits.shape).toEqual([PROMPT.length - 1 + 17, 40]);
      all.logits.dispose();
    });
    full.dispose();
  });
});

describe('bad requests are refused before any work', () => {
  it.each([
    [{ maxNewTokens: 0 }, 'BAD_MAX_NEW_TOKENS'],
    [{ maxNewTokens: 1.5 }, 'BAD_MAX_NEW_TOKENS'],
    [{ maxNewTokens: -3 }, 'BAD_MAX_NEW_TOKENS'],
    [{ maxNewTokens: 95 }, 'CONTEXT_OVERFLOW'],
    [{ temperature: Number.NaN }, 'BAD_SAMPLING'],
    [{ temperature: -1 }, 'BAD_SAMPLING'],
    [{ topP: 0 }, 'BAD_SAMPLING'],
    [{ topK: 1.5 }, 'BAD_SAMPLING'],
    [{ seed: -1 }, 'BAD_SAMPLING'],
  ])('%p gives %s', async (options, code) => {
    const before = tf.memory().numTensors;
    await expect(model.generate({ inputIds: [1, 4] }, options)).rejects.toMatchObject({ code });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('counts visual tokens against the context, and fewer of them fit', async () => {
    const six = Array.from({ length: 6 }, (_, i) => image(i));
    await withImages(six, async () => {
      const request = { inputIds: [1, ...new Array<number>(6).fill(IMAGE)], images: six };
      const before = tf.memory().numTensors;
      await expect(model.generate(request, { maxNewTokens: 1 })).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW' }); // 1 + 96 > 96
      expect(tf.memory().numTensors).toBe(before);
      const { usage } = await model.generate(request, { maxNewTokens: 1, prune: { method: 'vispruner', tokens: 4 } });
      expect(usage.promptTokens).toBe(25);
    });
  });

  it.each([
    [[1, 4], 1],
    [[1, IMAGE, IMAGE, 4], 1],
    [[1, IMAGE, 4], 0],
    [[1, ...new Array<number>(15).fill(IMAGE), 4], 1],
  ])('%p with %i image(s) names both counts', async (inputIds, count) => {
    const images = Array.from({ length: count }, (_, i) => image(i));
    await withImages(images, async () => {
      const before = tf.memory().numTensors;
      const error = await model.generate({ inputIds, images }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'IMAGE_TOKEN_COUNT' });
      expect(String(error)).toContain(String(inputIds.filter((id) => id === IMAGE).length));
      expect(tf.memory().numTensors).toBe(before);
    });
  });

  it.each([
    ['channels first', () => tf.zeros([1, 3, 32, 32]), 'IMAGE_TENSOR'],
    ['another size', () => tf.zeros([1, 24, 24, 3]), 'IMAGE_TENSOR'],
    ['whole numbers', () => tf.zeros([1, 32, 32, 3], 'int32'), 'IMAGE_TENSOR'],
    ['no crop', () => tf.zeros([0, 32, 32, 3]), 'IMAGE_TENSOR'],
    ['a value that is no number', () => tf.fill([1, 32, 32, 3], Number.NaN), 'IMAGE_NAN'],
  ])('pixels with %s are refused by name', async (_what, pixels, code) => {
    const wrong = { originalSize: { width: 32, height: 32 }, grid: { rows: 4, columns: 4 }, pixelValues: pixels() as tf.Tensor4D };
    await withImages([wrong], async () => {
      await expect(model.generate({ inputIds: PROMPT, images: [wrong] })).rejects.toMatchObject({ code });
    });
  });

  it('refuses ids outside the vocabulary and an empty prompt', async () => {
    await expect(model.generate({ inputIds: [1, 40] })).rejects.toMatchObject({ code: 'BAD_TOKEN_ID' });
    await expect(model.generate({ inputIds: [1, -1] })).rejects.toMatchObject({ code: 'BAD_TOKEN_ID' });
    await expect(model.generate({ inputIds: [] })).rejects.toMatchObject({ code: 'EMPTY_PROMPT' });
  });
});

describe('nothing is left behind', () => {
  it.each([0, 1, 3])('when a caller leaves after %i tokens', async (count) => {
    const one = image(1);
    await withImages([one], async () => {
      const before = tf.memory().numTensors;
      let seen = 0;
      const stream = model.tokens([{ inputIds: PROMPT, images: [one] }], { maxNewTokens: 6 });
      if (count > 0) for await (const _ of stream) if (++seen === count) break;
      await stream.return([]);
      expect(tf.memory().numTensors).toBe(before);
    });
  });

  it('when it is aborted, before or at any later moment, with the signal as its reason', async () => {
    const one = image(1);
    await withImages([one], async () => {
      const before = tf.memory().numTensors;
      const request = { inputIds: PROMPT, images: [one] };
      await expect(model.generate(request, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
      for (const after of [0, 1, 2, 4]) {
        const controller = new AbortController();
        let taps = 0;
        const tap = () => {
          if (taps++ === after * 20) controller.abort(new Error('enough'));
        };
        await expect(model.generate(request, { signal: controller.signal, tap, maxNewTokens: 20 })).rejects.toThrow('enough');
        expect(tf.memory().numTensors).toBe(before);
      }
    });
  });

  it('when a pruner of the caller fails, and the next call works', async () => {
    const one = image(1);
    await withImages([one], async () => {
      const request = { inputIds: PROMPT, images: [one] };
      const before = tf.memory().numTensors;
      const broken = {
        name: 'broken',
        textDependent: false,
        positions: 'keep' as const,
        needs: () => ({ attention: [] }),
        enteringTokens: (patches: number, blocks: number) => new Array<number>(blocks).fill(patches),
        begin: () => ({ beforeBlock: () => Promise.reject(new Error('broken pruner')), dispose() {} }),
      };
      await expect(model.generate(request, { prune: broken })).rejects.toThrow('broken pruner');
      expect(tf.memory().numTensors).toBe(before);
      expect((await model.generate(request, { maxNewTokens: 1 })).ids).toHaveLength(1);
    });
  });

  it('calls queue: several at once answer as one after another', async () => {
    const requests = [
      [1, 5],
      [1, 6, 7],
      [1, 8],
    ].map((inputIds) => ({ inputIds }));
    const together = await Promise.all(requests.map((request) => model.generate(request, { maxNewTokens: 4 })));
    for (const [i, request] of requests.entries()) {
      expect(Array.from(together[i]?.ids ?? [])).toEqual(Array.from((await model.generate(request, { maxNewTokens: 4 })).ids));
    }
  });

  it('a disposed model says so, and a second dispose does nothing', async () => {
    const other = await buildModel(CONFIG, { seed: 1 });
    other.dispose();
    other.dispose();
    await expect(other.generate({ inputIds: [1] })).rejects.toMatchObject({ code: 'DISPOSED' });
    expect(() => other.layers).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
  });

  it('a second backend is refused', async () => {
    await expect(buildModel(CONFIG, { backend: 'cpu' })).rejects.toMatchObject({ code: 'SECOND_BACKEND' });
  });
});
