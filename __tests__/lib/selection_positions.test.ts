import type * as tf from '@tensorflow/tfjs';
import { PromptCache } from '../../lib/prompt_cache';
import type { Pruner, VisionView } from '../../lib/prune/types';
import type { TokenModel } from '../../lib/token_model';
import { BACKENDS, useBackend } from '../support/backends';
import { expectClose } from '../support/compare';
import { disposeImages, fixtureImages, fixtureModel } from '../support/fixture_model';

// What is kept before the decoder may keep the positions that it has unpruned. The same tokens dropped before block 0, where the decoder's own laws hold,
// have to give the same.

const base = { textDependent: false, needs: () => ({ attention: [] }), enteringTokens: () => undefined } as const;

/** Of each crop, patches by their remainder, so that crops differ. */
const keptOf = (size: number, crop: number) => Int32Array.from({ length: size }, (_, i) => i).filter((i) => (i + crop) % 3 === 1);

const selected = (selectionPositions: 'keep' | 'compact', merge = false): Pruner => ({
  ...base,
  name: 'selected',
  positions: 'keep',
  selectionPositions,
  begin: () => ({
    async select({ features, image }: VisionView) {
      const kept = keptOf(features.shape[0], image);
      if (!merge) return { kept };
      const tokens = features.slice([0, 0], [2, -1]) as tf.Tensor2D;
      return { kept, merged: { tokens, space: 'features', members: [Int32Array.of(4, 1), Int32Array.of(-1, 2)] } };
    },
    dispose() {},
  }),
});

const dropped: Pruner = {
  ...base,
  name: 'dropped',
  positions: 'keep',
  begin: () => ({
    async beforeBlock({ block, origins }) {
      if (block > 0) return undefined;
      const size = Math.max(...origins.patches) + 1;
      const stays = (crop: number, patch: number) => keptOf(size, crop).includes(patch);
      return { keep: Int32Array.from(origins.patches.keys()).filter((i) => stays(origins.crops[i] as number, origins.patches[i] as number)) };
    },
    dispose() {},
  }),
};

describe.each(BACKENDS)('positions of a selection on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it.each(['default', 'full'])(
    'are those of the unpruned prompt, for the prompt and for what is written behind it: strategy %s',
    async (strategy) => {
      const model = fixtureModel('gqa', backend, { vision_feature_select_strategy: strategy });
      const image = (model.config as { image_token_index: number }).image_token_index;
      const images = fixtureImages('gqa', 2);
      const request = { inputIds: [1, 4, image, 9, image, 5, 6], images };
      const last = async (prune: Pruner): Promise<tf.Tensor> => {
        const { logits } = await model.forward(request, { prune });
        const row = logits.slice([logits.shape[0] - 1, 0], [1, -1]);
        logits.dispose();
        return row;
      };
      const ids = async (prune: Pruner) => Array.from((await model.generate(request, { prune, maxNewTokens: 6 })).ids);
      const [kept, reference, compact] = [await last(selected('keep')), await last(dropped), await last(selected('compact'))];
      await expectClose(kept, reference, 'last logits', 1e-5);
      await expect(expectClose(compact, reference, 'last logits', 1e-5)).rejects.toThrow();
      expect(await ids(selected('keep'))).toEqual(await ids(dropped));
      for (const row of [kept, reference, compact]) row.dispose();
      finish(model, images);
    },
  );

  it('are not lost to a cache, which has no place for gaps: a second turn starts anew', async () => {
    const model = fixtureModel('gqa', backend);
    const image = (model.config as { image_token_index: number }).image_token_index;
    const images = fixtureImages('gqa', 1);
    const prune = selected('keep');
    const encoded = await model.encodeImages(images, { prune });
    const cache = new PromptCache();
    const ids = async (inputIds: readonly number[], held?: PromptCache) =>
      Array.from((await model.generate({ inputIds, images: encoded, cache: held }, { prune, maxNewTokens: 4 })).ids);
    const first = [1, image, 5, 6];
    expect(await ids(first, cache)).toEqual(await ids(first));
    expect(cache.tokens).toBe(0);
    expect(await ids([...first, 9, 7], cache)).toEqual(await ids([...first, 9, 7]));
    cache.dispose();
    encoded.dispose();
    finish(model, images);
  });

  it('can not be kept by a merged token that stands for no patch', async () => {
    const model = fixtureModel('gqa', backend);
    const image = (model.config as { image_token_index: number }).image_token_index;
    const images = fixtureImages('gqa', 1);
    const forward = (prune: Pruner) => model.forward({ inputIds: [1, image, 5], images }, { prune });
    await expect(forward(selected('keep', true))).rejects.toMatchObject({
      code: 'BAD_SELECTION',
      message: expect.stringContaining('stands for no patch'),
    });
    (await forward(selected('compact', true))).logits.dispose();
    finish(model, images);
  });
});

function finish(model: TokenModel, images: ReturnType<typeof fixtureImages>): void {
  disposeImages(images);
  model.dispose();
}
