import type * as Plot from '@observablehq/plot';

/** What Observable Plot takes, but for `document`; `title` and `color: {legend: true}` are drawn into the picture itself. */
export type FigureOptions = Omit<Plot.PlotOptions, 'document' | 'caption' | 'subtitle'> & { readonly title?: string };

/** Makes the options of a figure from the library's marks: it is an ES module, and loaded when a picture is asked for. */
export type Figure = (plot: typeof Plot) => FigureOptions;

const LINE_HEIGHT = 20;
/** Of a letter at the legend's size; there is no font here to be measured. */
const LETTER_WIDTH = 6.5;
const SWATCH = 12;

/** The figure as one SVG document, made with the elements of `document`. */
export async function drawFigureIn(document: Document, figure: Figure): Promise<string> {
  const plot = await import('@observablehq/plot');
  const { title, color, ...options } = figure(plot);
  const { legend, ...scale } = color ?? {};
  const drawn = plot.plot({ ...options, color: scale, document });
  const colours = legend ? drawn.scale('color') : undefined;
  const entries = Array.from(colours?.domain ?? [], (value) => ({ label: String(value), fill: String(colours?.apply(value)) }));
  return page(document, drawn as unknown as Element, title, entries);
}

/** Documents of `drawFigure` in one, one below the other. */
export function stacked(documents: readonly string[]): string {
  const sizes = documents.map((svg) => ({ width: sizeOf(svg, 'width'), height: sizeOf(svg, 'height') }));
  const width = Math.max(...sizes.map((size) => size.width));
  let height = 0;
  const placed = documents.map((svg, i) => {
    const part = svg.replace('<svg ', `<svg y="${height}" `);
    height += (sizes[i] as { height: number }).height;
    return part;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">\n${placed.join('')}</svg>\n`;
}

function sizeOf(svg: string, side: 'width' | 'height'): number {
  return Number(new RegExp(` ${side}="([0-9.]+)"`).exec(svg)?.[1]);
}

interface LegendEntry {
  readonly label: string;
  readonly fill: string;
}

/** The drawing under its title and its legend. */
function page(document: Document, drawing: Element, title: string | undefined, entries: readonly LegendEntry[]): string {
  const width = Number(drawing.getAttribute('width'));
  const height = Number(drawing.getAttribute('height'));
  const head: Element[] = [];
  let y = 8;
  if (title !== undefined) {
    y += LINE_HEIGHT;
    head.push(text(document, title, 8, y - 6, { 'font-size': '14', 'font-weight': 'bold' }));
  }
  let x = 8;
  if (entries.length > 0) y += LINE_HEIGHT;
  for (const { label, fill } of entries) {
    const length = SWATCH + 6 + label.length * LETTER_WIDTH + 14;
    if (x > 8 && x + length > width) {
      x = 8;
      y += LINE_HEIGHT;
    }
    head.push(element(document, 'rect', { x: x, y: y - LINE_HEIGHT + 3, width: SWATCH, height: SWATCH, fill }));
    head.push(text(document, label, x + SWATCH + 6, y - LINE_HEIGHT + 13, { 'font-size': '12' }));
    x += length;
  }
  const total = height + y;
  const root = element(document, 'svg', {
    xmlns: 'http://www.w3.org/2000/svg',
    width,
    height: total,
    viewBox: `0 0 ${width} ${total}`,
    'font-family': 'system-ui, sans-serif',
    fill: 'black',
    color: 'black',
  });
  drawing.setAttribute('y', String(y));
  root.append(element(document, 'rect', { width, height: total, fill: 'white' }), ...head, drawing);
  return `${root.outerHTML}\n`;
}

function text(document: Document, content: string, x: number, y: number, attributes: Readonly<Record<string, string>>): Element {
  const made = element(document, 'text', { x, y, ...attributes });
  made.textContent = content;
  return made;
}

function element(document: Document, name: string, attributes: Readonly<Record<string, string | number>>): Element {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
