import type * as Plot from '@observablehq/plot';
import { drawFigure } from '../plot/svg_node';
import { type Against, onAxis, type PlotPoint, plottedRows, pointsOf, spread, tokenTicks, xDomain, yDomain } from './plot_points';
import type { Summary } from './summary';

/** How the line of a row looks: no two of the first 32 are alike. */
interface Look {
  readonly colour: string;
  readonly dash?: string;
  readonly symbol: Plot.SymbolType;
}

/** Okabe and Ito's colours, which colour-blind people tell apart too; their yellow, too pale on white, is darker. */
const COLOURS = ['#000000', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8a7a00'] as const;
const DASHES = [undefined, '6 3', '2 3', '8 3 2 3'] as const;
const SYMBOLS: readonly Plot.SymbolType[] = ['circle', 'square', 'triangle', 'diamond', 'star', 'wye', 'cross'];
const GREY = '#cccccc';
/** Levels that belong to no line: all tokens, and no image. */
const LEVELS = [
  { row: 'all', dash: '4 2' },
  { row: 'blind', dash: '1 3' },
] as const;

const SIZE = { width: 900, height: 560, marginRight: 260 } as const;
const SMALL_SIZE = { width: 375, height: 233, marginRight: 20 } as const;
const LABEL_HEIGHT = 13;

function lookOf(place: number): Look {
  const dash = DASHES[Math.floor(place / COLOURS.length) % DASHES.length];
  return { colour: COLOURS[place % COLOURS.length] as string, dash, symbol: SYMBOLS[place % SYMBOLS.length] as Plot.SymbolType };
}

/**
 * Accuracy of every method against the visual tokens that entered a block, or against the time of a question, each point with its 95% interval, as one
 * SVG. Names stand beside the lines. With `only`, the plot is small, and all rows but that one are grey.
 */
export function accuracyPlot(summary: Summary, against: Against, only?: string): Promise<string> {
  const rows = plottedRows(summary);
  const lines = rows.map((row, i) => ({ row, points: pointsOf(summary, row, against), look: lookOf(i) }));
  const unpruned = pointsOf(summary, 'all', against);
  const points = [...lines.flatMap((line) => line.points), ...unpruned];
  const [low, high] = yDomain(points);
  const size = only === undefined ? SIZE : SMALL_SIZE;
  const ticks = against === 'tokens' ? { ticks: tokenTicks(summary), tickFormat: (tick: number) => String(tick) } : {};
  return drawFigure((plot) => ({
    ...size,
    title: only ?? `${summary.title} against ${against === 'tokens' ? 'visual tokens entering a decoder block' : 'time of a question'}`,
    marginLeft: 48,
    marginBottom: 40,
    x: {
      type: against === 'tokens' ? 'log' : 'linear',
      domain: xDomain(points),
      reverse: true, // fewer tokens, less time to the right, where the lines are apart and have their names
      label: against === 'tokens' ? 'tokens entering a block, average' : 'ms a question, median',
      labelAnchor: 'center',
      ...ticks,
    },
    y: { domain: [low, high], grid: true, label: summary.unit === 'share' ? '%' : 'points' },
    marks: [
      ...LEVELS.flatMap(({ row, dash }) => {
        const levels = summary.cells.filter((cell) => cell.row === row).map(({ figure }) => onAxis(figure.value, summary));
        return plot.ruleY(
          levels.filter((level) => level >= low && level <= high),
          { stroke: '#888888', strokeDasharray: dash },
        );
      }),
      plot.dot(unpruned, { x: 'x', y: 'y', stroke: '#444444', r: 4, title: 'title' }),
      ...lines.filter(({ row }) => only !== undefined && row !== only).map((line) => plot.lineY(line.points, { x: 'x', y: 'y', stroke: GREY })),
      ...lines.filter(({ row }) => only === undefined || row === only).flatMap((line) => lineMarks(plot, line.points, line.look, against)),
      ...(only === undefined ? labelMarks(plot, lines, { low, high, height: size.height }) : []),
    ],
  }));
}

function lineMarks(plot: typeof Plot, points: readonly PlotPoint[], { colour, dash, symbol }: Look, against: Against): Plot.Markish[] {
  return [
    plot.ruleX(points, { x: 'x', y1: 'low', y2: 'high', stroke: colour, strokeOpacity: 0.45 }),
    ...(against === 'time' ? [plot.ruleY(points, { y: 'y', x1: 'left', x2: 'right', stroke: colour, strokeOpacity: 0.25 })] : []),
    plot.line(points, { x: 'x', y: 'y', stroke: colour, strokeWidth: 1.6, ...(dash === undefined ? {} : { strokeDasharray: dash }) }),
    plot.dot(points, { x: 'x', y: 'y', fill: colour, stroke: 'white', strokeWidth: 0.5, r: 4, symbol, title: 'title' }),
  ];
}

interface Line {
  readonly row: string;
  readonly points: readonly PlotPoint[];
  readonly look: Look;
}

interface Frame {
  readonly low: number;
  readonly high: number;
  readonly height: number;
}

/** A name at the right for every line, at the height of its smallest budget, moved apart where names would stand in one another. */
function labelMarks(plot: typeof Plot, lines: readonly Line[], { low, high, height }: Frame): Plot.Markish[] {
  const named = lines.filter(({ points }) => points.length > 0);
  const gap = ((high - low) * LABEL_HEIGHT) / (height - 60);
  const heights = spread(
    named.map(({ points }) => points.at(-1)?.y ?? low),
    gap,
    low,
  );
  return named.flatMap(({ row, look: { colour, symbol } }, i) => {
    const label = [{ row, at: heights[i] }];
    return [
      plot.dot(label, { frameAnchor: 'right', y: 'at', fill: colour, symbol, r: 3.5, dx: 14 }),
      plot.text(label, { frameAnchor: 'right', y: 'at', text: 'row', fill: colour, textAnchor: 'start', dx: 22, fontSize: 11 }),
    ];
  });
}
