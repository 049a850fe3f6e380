import fc from 'fast-check';
import { attentionDispersion, DispersionAccumulator, loadModel, scenePictures, shareOfTop } from '../../../lib';
import { useBackend, withoutLeaks } from '../../support/backends';

const dispersionOf = (rows: readonly (readonly number[])[], bins = 4) => {
  const accumulator = new DispersionAccumulator(rows[0]!.length, bins);
  for (const row of rows) accumulator.add(Float32Array.from(row));
  return accumulator.result();
};

describe('how attention spreads', () => {
  it('is the diagonal when all tokens get the same, whatever that is', () => {
    for (const each of [1, 0.25, 1e-6]) {
      expect([...dispersionOf([[each, each, each, each]]).cumulative]).toEqual([0.25, 0.5, 0.75, 1]);
    }
  });

  it('is 1 from the first token on when one has it all, in any place', () => {
    expect([...dispersionOf([[0, 0, 0.3, 0]]).cumulative]).toEqual([1, 1, 1, 1]);
  });

  it('is the mean of the curves of samples, each by its own sum: a sample of small scores counts like another', () => {
    expect([
      ...dispersionOf([
        [0.1, 0.3, 0, 0],
        [0.01, 0.01, 0.01, 0.01],
      ]).cumulative,
    ]).toEqual([0.5, 0.75, 0.875, 1].map((value) => expect.closeTo(value, 6)));
  });

  it('takes a row of zeros as one where all have the same', () => {
    expect([...dispersionOf([[0, 0]]).cumulative]).toEqual([0.5, 1]);
  });

  it('does not care in which order tokens stand, and never falls', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: 2, maxLength: 30 }), (scores) => {
        const { cumulative } = dispersionOf([scores]);
        const turned = dispersionOf([[...scores].reverse()]).cumulative;
        expect(turned).toEqual(cumulative);
        for (let i = 1; i < cumulative.length; i++) expect(cumulative[i]).toBeGreaterThanOrEqual((cumulative[i - 1] as number) - 1e-6);
        expect(cumulative.at(-1)).toBeCloseTo(1, 5);
      }),
    );
  });
});

describe('the histogram', () => {
  it('has its bins by the largest score of all samples, and the largest in the last', () => {
    const { histogram, largest } = dispersionOf([
      [0, 1],
      [2, 4],
    ]);
    expect(largest).toBe(4);
    expect([...histogram]).toEqual([0.25, 0.25, 0.25, 0.25]);
  });

  it('counts every score once', () => {
    const { histogram } = dispersionOf(
      [
        [0.2, 0.9, 0.5],
        [0.1, 0.3, 0.7],
      ],
      7,
    );
    expect(histogram.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
  });
});

it('what the top tokens hold is read off between two tokens, and at the ends', () => {
  const found = dispersionOf([[0.6, 0.2, 0.1, 0.1]]);
  const read = (fraction: number) => shareOfTop(found, fraction);
  expect([0, 0.125, 0.25, 0.5, 1].map(read)).toEqual([0, 0.3, 0.6, 0.8, 1].map((value) => expect.closeTo(value, 6)));
});

it('of the shipped model: a sample a picture for the encoder, a question for the decoder; nothing is left behind, and a wrong block is refused', async () => {
  await useBackend('wasm');
  const model = await loadModel('weights/vispruner-tiny', { backend: 'wasm' });
  const pictures = [...scenePictures(2)];
  const { encoder, last, equal, visualTokens, block } = await withoutLeaks(() => attentionDispersion(model, pictures));
  const questions = pictures.reduce((sum, picture) => sum + picture.questions.length, 0);
  expect({ visualTokens, block }).toEqual({ visualTokens: 256, block: 1 });
  expect([encoder.samples, last.samples, equal.samples]).toEqual([2, questions, questions]);
  for (const { cumulative } of [encoder, last, equal]) expect(cumulative.at(-1)).toBeCloseTo(1, 4);
  expect(last.cumulative).not.toEqual(equal.cumulative);
  await expect(attentionDispersion(model, pictures, { block: 4 })).rejects.toMatchObject({ code: 'BAD_OPTION' });
  model.dispose();
});
