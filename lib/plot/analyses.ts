import type * as Plot from '@observablehq/plot';
import { measureOf } from '../analysis/answers';
import type { AttentionDispersion } from '../analysis/dispersion';
import type { KeptRank } from '../analysis/effective_rank';
import { CRITERIA, type EqualPositionAttention } from '../analysis/equal_positions';
import type { QuartileRetentions } from '../analysis/quartiles';
import type { AttentionShift } from '../analysis/shift';
import type { Profile } from '../analysis/statistics';
import { stacked } from './figure';
import { drawFigure } from './svg_node';

const WIDTH = 900;
/** More blocks than these are not told apart by their colours. */
const MOST_LINES = 6;
const QUARTERS = ['first quarter', 'second', 'third', 'last quarter'];
const [OWN, EQUAL] = ["the model's positions", 'equal positions'];
const SHIFT_ROWS = ['last', 'text', 'image', 'full'] as const;
/** Curves by index are averaged over so many neighbours: a single patch says little. */
const SMOOTHED = 16;

interface IndexPoint {
  readonly index: number;
  readonly value: number;
  readonly line: string;
  readonly panel: string;
}

/** Attention by index, as multiples of an even share, and shares of the quarters by block: one SVG document. */
export async function drawShift({ blocks, encoder, visualTokens }: AttentionShift): Promise<string> {
  const step = Math.max(1, Math.ceil(blocks.length / MOST_LINES));
  const shown = blocks.filter(({ block }) => block % step === 0);
  const curves = SHIFT_ROWS.flatMap((row) => shown.flatMap((block) => relative(block[row], `block ${block.block}`, row)));
  const panels = [...SHIFT_ROWS, 'encoder'];
  const byIndex = await drawFigure((plot) => ({
    title: 'Attention by index of the visual token',
    ...wide(260),
    fx: { label: null, domain: panels },
    x: { label: 'index' },
    y: { label: 'times an even share', grid: true, zero: true },
    color: { legend: true },
    marks: [
      plot.ruleY([1], { strokeDasharray: '3,3' }),
      smoothLine(plot, [...curves, ...relative(encoder, 'class attention', 'encoder')], visualTokens),
    ],
  }));
  const rows = [...SHIFT_ROWS, 'selected'] as const;
  const shares = rows.flatMap((row) =>
    blocks.flatMap((block) => block[row].quartiles.map((share, quarter) => ({ row, block: block.block, share, quarter: QUARTERS[quarter] }))),
  );
  const byBlock = await drawFigure((plot) => ({
    title: 'Share of the four quarters of the indices, by decoder block',
    ...wide(260),
    fx: { label: null, domain: [...rows] },
    x: { label: 'block', tickFormat: 'd', ticks: Math.min(blocks.length, 8) },
    y: { label: 'share, %', grid: true, zero: true, percent: true },
    color: { legend: true, domain: QUARTERS },
    marks: [
      plot.ruleY([0.25], { strokeDasharray: '3,3' }),
      plot.lineY(shares, { fx: 'row', x: 'block', y: 'share', stroke: 'quarter', marker: true }),
    ],
  }));
  return stacked([byIndex, byBlock]);
}

/** Curves of held attention, and histograms of scores: one SVG document. */
export async function drawDispersion(found: AttentionDispersion): Promise<string> {
  const kinds = { 'class attention': found.encoder, [`last token, block ${found.block}`]: found.last, 'the same, equal positions': found.equal };
  const named = Object.entries(kinds);
  const curves = named.flatMap(([kind, { cumulative }]) => [
    { kind, tokens: 0, share: 0 },
    ...Array.from(cumulative, (share, i) => ({ kind, tokens: (i + 1) / cumulative.length, share })),
  ]);
  const held = await drawFigure((plot) => ({
    title: 'Attention that the most attended tokens hold',
    ...wide(340),
    x: { label: 'tokens, %', percent: true },
    y: { label: 'attention, %', percent: true, grid: true },
    color: { legend: true, domain: named.map(([kind]) => kind) },
    marks: [
      plot.line(
        [
          [0, 0],
          [1, 1],
        ],
        { strokeDasharray: '3,3' },
      ),
      plot.lineY(curves, { x: 'tokens', y: 'share', stroke: 'kind' }),
    ],
  }));
  const bars = named.flatMap(([kind, { histogram }]) =>
    Array.from(histogram, (share, bin) => ({ kind, from: bin / histogram.length, to: (bin + 1) / histogram.length, share })).filter(
      ({ share }) => share > 0,
    ),
  );
  const least = Math.min(...bars.map(({ share }) => share)) / 2; // a logarithm has no zero to stand on
  const scores = await drawFigure((plot) => ({
    title: 'How often a score is so large',
    ...wide(260),
    fx: { label: null, domain: named.map(([kind]) => kind) },
    x: { label: 'of the largest' },
    y: { label: 'share of scores', type: 'log', grid: true, ticks: 5, tickFormat: '~%' },
    color: { domain: named.map(([kind]) => kind) },
    marks: [plot.rectY(bars, { fx: 'kind', x1: 'from', x2: 'to', y1: () => least, y2: 'share', fill: 'kind', inset: 0 })],
  }));
  return stacked([held, scores]);
}

/** Answers when one quarter goes on, by depth. */
export function drawQuartiles({ retentions, full }: QuartileRetentions): Promise<string> {
  const { name, of } = measureOf(full);
  const points = retentions.map((one) => ({ depth: one.depth, quarter: QUARTERS[one.quartile], ...of(one) }));
  return drawFigure((plot) => ({
    title: `${capital(name)} when one quarter of the visual tokens goes on from a block`,
    ...wide(340),
    x: { label: 'block before which the others are dropped', tickFormat: 'd', ticks: Math.min(8, new Set(points.map(({ depth }) => depth)).size) },
    y: { label: `${name}, %`, percent: true, grid: true, domain: [0, 100] },
    color: { legend: true, domain: QUARTERS },
    marks: [
      plot.ruleY([of(full).share], { strokeDasharray: '3,3' }),
      plot.ruleX(points, { x: 'depth', y1: 'low', y2: 'high', stroke: 'quarter', strokeOpacity: 0.4 }),
      plot.lineY(points, { x: 'depth', y: 'share', stroke: 'quarter', marker: true }),
    ],
  }));
}

/** Attention by index under both kinds of positions, and answers by what tokens were chosen by: one SVG document. */
export async function drawEqualPositions({ last, equal, full, pruned, visualTokens, tokens, block }: EqualPositionAttention): Promise<string> {
  const curves = [...relative(last, OWN, ''), ...relative(equal, EQUAL, '')];
  const byIndex = await drawFigure((plot) => ({
    title: `Attention of the last token in block ${block}`,
    ...wide(280),
    x: { label: 'index' },
    y: { label: 'times an even share', grid: true, zero: true },
    color: { legend: true, domain: [OWN, EQUAL] },
    marks: [plot.ruleY([1], { strokeDasharray: '3,3' }), smoothLine(plot, curves, visualTokens, false)],
  }));
  const { name, of } = measureOf(full);
  const bars = CRITERIA.map((criterion) => ({ criterion, ...of(pruned[criterion]) }));
  const answers = await drawFigure((plot) => ({
    title: `${capital(name)} with ${tokens} of ${visualTokens} tokens from block ${block + 1} on, by what they were chosen by`,
    ...wide(200),
    marginLeft: 70,
    x: { label: `${name}, %`, percent: true, grid: true, domain: [0, 100] },
    y: { label: null, domain: [...CRITERIA] },
    marks: [
      plot.barX(bars, { x: 'share', y: 'criterion', fill: '#4269d0' }),
      plot.ruleY(bars, { x1: 'low', x2: 'high', y: 'criterion' }),
      plot.ruleX([of(full).share], { strokeDasharray: '3,3' }),
    ],
  }));
  return stacked([byIndex, answers]);
}

/** Effective ranks, with a standard deviation to either side. */
export function drawRanks(ranks: readonly KeptRank[]): Promise<string> {
  const bars = ranks.map(({ name, tokens, rank, deviation }) => ({
    label: `${name} (${+tokens.toFixed(1)})`,
    rank,
    low: rank - deviation,
    high: rank + deviation,
  }));
  return drawFigure((plot) => ({
    title: 'Effective rank of the visual tokens that enter the decoder',
    width: WIDTH,
    height: 60 + 30 * bars.length,
    marginLeft: 180,
    x: { label: 'effective rank', grid: true },
    y: { label: null, domain: bars.map(({ label }) => label) },
    marks: [plot.barX(bars, { x: 'rank', y: 'label', fill: '#4269d0' }), plot.ruleY(bars, { x1: 'low', x2: 'high', y: 'label' })],
  }));
}

const wide = (height: number) => ({ width: WIDTH, height, marginTop: 30 });

/** Values as multiples of what each index would have if all had the same. */
function relative({ values, mass }: Profile, line: string, panel: string): IndexPoint[] {
  return Array.from(values, (value, index) => ({ index, value: (value * values.length) / mass, line, panel }));
}

function smoothLine(plot: typeof Plot, points: readonly IndexPoint[], visualTokens: number, panels = true): Plot.Line {
  const window = { k: Math.max(1, Math.round(visualTokens / SMOOTHED)), strict: false };
  return plot.lineY(points, plot.windowY(window, { x: 'index', y: 'value', stroke: 'line', ...(panels ? { fx: 'panel' } : {}) }));
}

const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
