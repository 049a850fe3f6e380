import { drawFigureIn, type Figure } from './figure';

/** As in Node, with the elements of the page; a worker has none. */
export function drawFigure(figure: Figure): Promise<string> {
  return drawFigureIn(document, figure);
}
