import { ClipVisionBlock } from '../../layers/clip_vision';
import { Llama } from '../../layers/llama';
import { Projector } from '../../layers/projector';
import { Rotary } from '../../layers/rotary';
import { BACKENDS, useBackend } from '../support/backends';
import { disposeImages, fixtureImages, fixtureModel } from '../support/fixture_model';

const [TOKENS, NEW] = [5, 4];

describe.each(BACKENDS)('what is not needed is not computed, on %s', (backend) => {
  beforeAll(() => useBackend(backend));

  it('blocks that nobody reads, dropped patches, rows whose logits nobody reads, tables that are there already', async () => {
    const model = fixtureModel('tiny-llava-hf', backend);
    const images = fixtureImages('tiny-llava-hf', 1);
    const vision = jest.spyOn(ClipVisionBlock.prototype, 'apply');
    const projector = jest.spyOn(Projector.prototype, 'apply');
    const logits = jest.spyOn(Llama.prototype, 'logits');
    const tables = jest.spyOn(Rotary.prototype, 'table');
    const rows = (spy: { readonly mock: { readonly calls: readonly (readonly unknown[])[] } }) =>
      spy.mock.calls.map(([x]) => (x as { readonly shape: readonly number[] }).shape[0]);
    try {
      await model.generate(
        { inputIds: [1, 5, 90, 7, 8], images },
        { prune: { method: 'vispruner', tokens: TOKENS }, maxNewTokens: NEW, minNewTokens: NEW },
      );
      expect(vision).toHaveBeenCalledTimes(2); // of 3: features are those of the last but one
      expect(rows(projector)).toEqual([TOKENS]); // of 16
      expect(rows(logits)).toEqual(Array(NEW).fill(1));
      expect(tables).toHaveBeenCalledTimes(NEW); // one for the prompt, one for each token behind it; of 3 blocks each
    } finally {
      for (const spy of [vision, projector, logits, tables]) spy.mockRestore();
      disposeImages(images);
      model.dispose();
    }
  });
});
