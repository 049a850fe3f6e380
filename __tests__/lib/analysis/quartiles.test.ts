import { loadModel, quartileRetention, scenePictures, type VisionLanguageModel } from '../../../lib';
import { quartileIndices } from '../../../lib/analysis/quartiles';
import { createPruner } from '../../../lib/prune/registry';
import { useBackend, withoutLeaks } from '../../support/backends';

it('the four quarters are all tokens, each once and in order, of any number', () => {
  for (let size = 4; size <= 40; size++) {
    expect([0, 1, 2, 3].flatMap((quartile) => [...quartileIndices(size, quartile)])).toEqual(Array.from({ length: size }, (_, i) => i));
  }
});

describe('of the shipped model', () => {
  let model: VisionLanguageModel;
  const [scene] = scenePictures(1);
  const picture = { image: scene!.image, questions: scene!.questions.slice(0, 3) };
  beforeAll(async () => {
    await useBackend('wasm');
    model = await loadModel('weights/vispruner-tiny', { backend: 'wasm' });
  });
  afterAll(() => model.dispose());

  it('all tokens enter the blocks before the depth, a quarter those from it on', async () => {
    const generate = jest.spyOn(model, 'generateBatch');
    await quartileRetention(model, [picture], { depths: [0, 2] });
    const entering: (readonly number[])[] = [];
    const images = await model.prepareImages([picture.image]);
    for (const [requests, options] of generate.mock.calls) {
      const { logits, enteringTokens } = await model.forward({ inputIds: requests[0]!.inputIds, images }, { prune: createPruner(options!.prune!) });
      logits.dispose();
      entering.push(enteringTokens);
    }
    generate.mockRestore();
    for (const { pixelValues } of images) pixelValues.dispose();
    expect(entering).toEqual([[256, 256, 256, 256], ...new Array(4).fill([64, 64, 64, 64]), ...new Array(4).fill([256, 256, 64, 64])]);
  });

  it('answers are compared with the unpruned ones and with the right ones: where those are the same, so are both counts', async () => {
    const questions = await Promise.all(
      picture.questions.map(async ({ text }) => ({ text, answer: (await model.ask(picture.image, text, { maxNewTokens: 1 })).text })),
    );
    const found = await withoutLeaks(() => quartileRetention(model, [{ ...picture, questions }], { depths: [0, 3] }));
    expect(found.full.accuracy).toMatchObject({ right: questions.length, total: questions.length });
    expect(found.retentions).toHaveLength(8);
    for (const { agreement, accuracy } of found.retentions) expect(accuracy).toEqual(agreement);
    expect(found.retentions.some(({ agreement }) => agreement.right < agreement.total)).toBe(true);
  });

  it('more questions than are packed at once are all answered, in order', async () => {
    const [, ...others] = picture.questions;
    const many = [...Array(8).fill(picture.questions[0]), ...others];
    const { full, samples } = await quartileRetention(model, [{ ...picture, questions: many }], { depths: [] });
    const few = await quartileRetention(model, [picture], { depths: [] });
    const first = await quartileRetention(model, [{ ...picture, questions: picture.questions.slice(0, 1) }], { depths: [] });
    expect(samples).toBe(10);
    expect(full.accuracy.right).toBe(few.full.accuracy.right + 7 * first.full.accuracy.right);
  });

  it('without answers there is agreement alone', async () => {
    const questions = picture.questions.map(({ text }) => ({ text }));
    const { full, samples } = await quartileRetention(model, [{ ...picture, questions }], { depths: [3] });
    expect(full.accuracy.total).toBe(0);
    expect(full.agreement).toMatchObject({ right: samples, total: samples });
  });

  it('a depth that the decoder does not have is refused', async () => {
    await expect(quartileRetention(model, [picture], { depths: [4] })).rejects.toMatchObject({ code: 'BAD_OPTION' });
  });
});
