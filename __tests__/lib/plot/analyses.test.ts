import sharp from 'sharp';
import { wilson } from '../../../lib';
import { profileOf } from '../../../lib/analysis/statistics';
import { drawDispersion, drawEqualPositions, drawQuartiles, drawRanks, drawShift } from '../../../lib/plot/analyses';

const COLOURS = ['#4269d0', '#efb118', '#ff725c', '#6cc5b0'];

/** How many pixels have each of Plot's first colours, below the legends. */
async function painted(svg: string, from = 70): Promise<number[]> {
  const { data, info } = await sharp(Buffer.from(svg)).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return COLOURS.map((colour) => {
    const wanted = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
    let count = 0;
    for (let i = from * info.width * 3; i < data.length; i += 3) if (wanted.every((value, channel) => data[i + channel] === value)) count++;
    return count;
  });
}

const half = wilson({ right: 5, total: 10 });
const quality = { agreement: half, accuracy: half };
const profile = profileOf(Float32Array.from({ length: 64 }, (_, i) => i + 1));
const spread = { samples: 1, cumulative: Float32Array.of(0.5, 0.75, 1, 1), histogram: Float64Array.of(0.5, 0.5), largest: 1 };

describe('every line and bar of a figure lies inside it', () => {
  it('shift: a line a block', async () => {
    const block = { last: profile, text: profile, image: profile, full: profile, selected: profile };
    const blocks = [0, 1].map((number) => ({ ...block, block: number }));
    const svg = await drawShift({ visualTokens: 64, samples: 1, selectedTokens: 16, blocks, encoder: profile });
    expect(svg).toContain('class attention');
    for (const count of (await painted(svg)).slice(1, 3)) expect(count).toBeGreaterThan(50); // the second covers the first: they are equal
  });

  it('dispersion: a curve and a histogram for each kind', async () => {
    const svg = await drawDispersion({ visualTokens: 4, block: 1, encoder: spread, last: spread, equal: spread });
    for (const count of (await painted(svg, 400)).slice(0, 3)) expect(count).toBeGreaterThan(1000);
  });

  it('quartiles: a line a quarter', async () => {
    const retentions = [0, 1].flatMap((depth) =>
      [0, 1, 2, 3].map((quartile) => {
        const share = wilson({ right: 2 * quartile + depth, total: 10 });
        return { depth, quartile, kept: 16, agreement: share, accuracy: share };
      }),
    );
    const svg = await drawQuartiles({ visualTokens: 64, samples: 10, full: quality, retentions });
    for (const count of await painted(svg)) expect(count).toBeGreaterThan(100);
  });

  it('equal positions: bars as long as the accuracy, half of the frame for a half', async () => {
    const pruned = { last: quality, equal: quality, class: quality, random: quality };
    const found = { visualTokens: 64, samples: 10, block: 0, tokens: 16, last: profile, equal: profile, full: quality, pruned };
    const svg = await drawEqualPositions(found);
    const widths = [...svg.matchAll(/<rect[^>]* width="([0-9.]+)"[^>]*\/>/g)].map((match) => Number(match[1]));
    const frame = 900 - 70 - 20;
    expect(widths.filter((width) => Math.abs(width - frame / 2) < 1)).toHaveLength(4);
  });

  it('agreement is drawn where there are no answers, and the picture says so', async () => {
    const unknown = { agreement: half, accuracy: wilson({ right: 0, total: 0 }) };
    const svg = await drawQuartiles({ visualTokens: 64, samples: 10, full: unknown, retentions: [{ depth: 0, quartile: 0, kept: 16, ...unknown }] });
    expect(svg).toContain('Agreement when');
    expect(svg).not.toContain('NaN');
  });

  it('ranks: a bar a method, with its tokens', async () => {
    const svg = await drawRanks([
      { name: 'all', tokens: 256, rank: 29, deviation: 3 },
      { name: 'random', tokens: 28, rank: 11, deviation: 1 },
    ]);
    expect(svg).toContain('random (28)');
    expect((await painted(svg, 40))[0]).toBeGreaterThan(1000);
  });
});
