import * as tf from '@tensorflow/tfjs';
import { attentionShift, equalPositionAttention, loadModel, scenePictures, type VisionLanguageModel } from '../../../lib';
import { equalPositions, lastRowAttention, ownPositions } from '../../../lib/analysis/decoder_hook';
import type { DecoderView } from '../../../lib/prune/types';
import { BACKENDS, useBackend, withoutLeaks } from '../../support/backends';
import { fixtureModel } from '../../support/fixture_model';

describe('equal positions', () => {
  it('are one for all patches in a row, and go on from there', () => {
    expect([...equalPositions(7, Int32Array.of(2, 3, 4))]).toEqual([0, 1, 2, 2, 2, 3, 4]);
  });

  it("are the authors' in LLaVA's prompt: 35 for all 576 patches, the text behind them 575 lower", () => {
    const patches = Int32Array.from({ length: 576 }, (_, i) => 35 + i);
    const positions = equalPositions(35 + 576 + 10, patches);
    expect(new Set(positions.subarray(35, 611))).toEqual(new Set([35]));
    expect(positions[611]).toBe(611 - 575);
  });

  it('are those of the model for one patch, and of their own for each of two images', () => {
    expect(equalPositions(5, Int32Array.of(2))).toEqual(ownPositions(5));
    expect([...equalPositions(6, Int32Array.of(1, 2, 4, 5))]).toEqual([0, 1, 1, 2, 3, 3]);
  });
});

describe.each(BACKENDS)('the last row at chosen positions, on %s', (backend) => {
  const LENGTH = 9;
  const patches = Int32Array.of(2, 3, 4, 5);
  let model: ReturnType<typeof fixtureModel>;
  beforeAll(async () => {
    await useBackend(backend);
    model = fixtureModel('tiny-llava-hf', backend);
  });
  afterAll(() => model.dispose());

  /** A sequence whose patches are all alike, or all different. */
  async function rows(alike: boolean, positions: readonly Int32Array[]): Promise<Float32Array[]> {
    const llama = model.layers.language;
    const states = tf.tidy(() => {
      const all = tf.randomNormal<tf.Rank.R2>([LENGTH, llama.shape.hidden_size], 0, 1, 'float32', 7);
      return alike ? tf.gather(all, tf.tensor1d([0, 1, 2, 2, 2, 2, 6, 7, 8], 'int32')) : all;
    });
    const view = { block: 1, sequenceLength: LENGTH, visualRows: patches, states } as unknown as DecoderView;
    const found = await withoutLeaks(() => lastRowAttention(llama, view, positions));
    states.dispose();
    return found;
  }

  it('patches that are alike get the same when they stand at one place, and not at places of their own', async () => {
    const [equal, own] = (await rows(true, [equalPositions(LENGTH, patches), ownPositions(LENGTH)])) as [Float32Array, Float32Array];
    for (const value of equal) expect(value).toBeCloseTo(equal[0] as number, 6);
    expect(Math.max(...own) - Math.min(...own)).toBeGreaterThan(1e-4);
  });

  it('only distances count: all positions moved by one number change nothing', async () => {
    const [near, far] = (await rows(false, [ownPositions(LENGTH), ownPositions(LENGTH).map((position) => position + 50)])) as [
      Float32Array,
      Float32Array,
    ];
    for (const [i, value] of near.entries()) expect(far[i]).toBeCloseTo(value, 5);
  });
});

describe('of the shipped model', () => {
  let model: VisionLanguageModel;
  const pictures = [...scenePictures(2)].map((picture) => ({ ...picture, questions: picture.questions.slice(0, 2) }));
  beforeAll(async () => {
    await useBackend('wasm');
    model = await loadModel('weights/vispruner-tiny', { backend: 'wasm' });
  });
  afterAll(() => model.dispose());

  it("attention at the model's own positions is that of its maps", async () => {
    const { last } = await equalPositionAttention(model, pictures, { block: 1, tokens: 8 });
    const { blocks } = await attentionShift(model, pictures);
    for (const [i, value] of blocks[1]!.last.values.entries()) expect(last.values[i]).toBeCloseTo(value, 5);
  });

  it('when all tokens go on, every criterion answers as the unpruned model, and nothing is left behind', async () => {
    const { pruned, samples, full } = await withoutLeaks(() => equalPositionAttention(model, pictures, { block: 0, tokens: 256 }));
    for (const { agreement, accuracy } of Object.values(pruned)) {
      expect(agreement).toMatchObject({ right: samples, total: samples });
      expect(accuracy.right).toBe(full.accuracy.right);
    }
  });

  it('one token of 256 is not enough, so that dropping is seen to happen', async () => {
    const { pruned, samples } = await equalPositionAttention(model, pictures, { block: 0, tokens: 1, seed: 3 });
    expect(pruned.random.agreement.right).toBeLessThan(samples);
  });

  it('a block behind which nothing can be dropped is refused', async () => {
    await expect(equalPositionAttention(model, pictures, { block: 3 })).rejects.toMatchObject({ code: 'BAD_OPTION' });
    await expect(equalPositionAttention(model, pictures, { tokens: 0 })).rejects.toMatchObject({ code: 'BAD_OPTION' });
  });
});
