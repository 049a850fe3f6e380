import sharp from 'sharp';
import { drawFigure } from '../../../lib/plot/svg_node';

const ROWS = [
  { x: 0, y: 1, method: 'one' },
  { x: 1, y: 2, method: 'one' },
  { x: 0, y: 3, method: 'a<b & "c"' },
  { x: 1, y: 1, method: 'a<b & "c"' },
];

const draw = (title?: string) =>
  drawFigure((plot) => ({
    title,
    width: 400,
    height: 200,
    color: { legend: true },
    marks: [plot.lineY(ROWS, { x: 'x', y: 'y', stroke: 'method' })],
  }));

describe('a figure as SVG', () => {
  it('is one document that another program reads, of the size that was asked for and its head', async () => {
    const { format, width, height } = await sharp(Buffer.from(await draw())).metadata();
    expect({ format, width }).toEqual({ format: 'svg', width: 400 });
    expect(height).toBeGreaterThan(200);
  });

  it('names every line in its legend in the colour that it is drawn in, whatever letters the name has', async () => {
    const svg = await draw();
    expect(svg).toContain('>one</text>');
    expect(svg).toContain('>a&lt;b &amp; "c"</text>');
    const strokes = [...svg.matchAll(/stroke="(#[0-9a-f]{6})"/g)].map((match) => match[1]);
    expect(strokes.length).toBeGreaterThanOrEqual(2);
    for (const colour of strokes) expect(svg).toContain(`fill="${colour}"`);
  });

  it('has the title inside, and makes room for it', async () => {
    const [without, titled] = [await draw(), await draw('How much')];
    expect(titled).toContain('>How much</text>');
    const height = async (svg: string) => (await sharp(Buffer.from(svg)).metadata()).height ?? 0;
    expect(await height(titled)).toBeGreaterThan(await height(without));
  });

  it('is white where nothing is drawn, also where a viewer is dark', async () => {
    const { data } = await sharp(Buffer.from(await draw('x')))
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect([...data.subarray(0, 3)]).toEqual([255, 255, 255]);
  });
});
