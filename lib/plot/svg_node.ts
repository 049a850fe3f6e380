import { drawFigureIn, type Figure } from './figure';

/**
 * Draws a figure as one SVG document, which stands alone: on white, with its title and its legend inside (Plot itself puts both into HTML around it).
 *
 * @example
 * const svg = await drawFigure((plot) => ({ title: 'Accuracy', color: { legend: true }, marks: [plot.lineY(rows, { x: 'tokens', y: 'share', stroke: 'method' })] }));
 */
export async function drawFigure(figure: Figure): Promise<string> {
  const { parseHTML } = await import('linkedom');
  return drawFigureIn(parseHTML('<!doctype html><html><body></body></html>').document, figure);
}
