import { attentionShift, EncodedImages, HELD_OUT_SEEDS, loadModel, scenePictures, type VisionLanguageModel } from '../../../lib';
import { CLASS_ATTENTION, forEachPicture } from '../../../lib/analysis/pictures';
import { generateScene } from '../../../lib/scenes';
import { useBackend, withoutLeaks } from '../../support/backends';

let model: VisionLanguageModel;
beforeAll(async () => {
  await useBackend('wasm');
  model = await loadModel('weights/vispruner-tiny', { backend: 'wasm' });
});
afterAll(() => model.dispose());

it('scenes are those that no training saw, from the first, with their answers', () => {
  const pictures = [...scenePictures(3)];
  expect(pictures).toHaveLength(3);
  expect(pictures[1]?.image).toMatchObject({ data: generateScene(HELD_OUT_SEEDS.first + 1).pixels });
  for (const { questions } of pictures) for (const { answer } of questions) expect(answer).toMatch(/\S/);
});

it('each picture is encoded once, tells how far the work is, and is freed', async () => {
  const encode = jest.spyOn(model, 'encodeImages');
  const done: number[] = [];
  const seen: number[] = [];
  const count = await withoutLeaks(() =>
    forEachPicture(model, scenePictures(2), { progress: (pictures) => done.push(pictures), prune: [CLASS_ATTENTION] }, async ({ index, patches }) => {
      seen.push(index, patches);
    }),
  );
  expect({ count, done, seen, encoded: encode.mock.calls.length }).toEqual({ count: 2, done: [1, 2], seen: [0, 256, 1, 256], encoded: 2 });
  encode.mockRestore();
});

it('pictures of different numbers of tokens have no common index, and are refused', async () => {
  const first = model.encodeImages.bind(model);
  const encode = jest.spyOn(model, 'encodeImages').mockImplementationOnce(first).mockResolvedValueOnce(new EncodedImages([]));
  await expect(withoutLeaks(() => attentionShift(model, scenePictures(2)))).rejects.toMatchObject({ code: 'TOKENS_DIFFER' });
  encode.mockRestore();
});

it('a failure in the middle leaves nothing behind', async () => {
  const failing = forEachPicture(model, scenePictures(1), {}, async () => {
    throw new Error('no');
  });
  await expect(withoutLeaks(() => failing.catch((error: Error) => error.message))).resolves.toBe('no');
});
