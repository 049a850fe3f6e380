import { mergeResults, type Results, type ResultsHeader, reportFiles, type Summary, summarize, summaryTables } from '../../../lib/eval';
import { spread } from '../../../lib/eval/plot_points';

const HEADER: ResultsHeader = {
  format: 'vispruner-eval 1',
  weights: 'abc',
  dtype: 'float32',
  backend: 'wasm',
  machine: 'a machine',
  data: { name: 'scenes', digest: 'd', metric: 'word', maxNewTokens: 1 },
  conditions: [
    { key: 'all', row: 'all', budget: 1, averageTokens: 256 },
    { key: 'blind', row: 'blind', averageTokens: 0 },
    { key: 'a 128', row: 'a', budget: 0.5, averageTokens: 128 },
    { key: 'a 28', row: 'a', budget: 0.11, averageTokens: 28 },
    { key: 'r 128 seed 1', row: 'r', budget: 0.5, seed: 1, averageTokens: 128 },
    { key: 'r 128 seed 2', row: 'r', budget: 0.5, seed: 2, averageTokens: 128 },
    { key: 'free', row: 'free' },
  ],
  unreachable: [{ row: 'r', budget: 0.11, least: 64.75, nearest: 64.75 }],
  timed: 1,
};

/** Ten images with a question each of two groups. Right: all 20 with all tokens, 10 of `a` at 128, 5 at 28; of `r` 8 and 6; of the blind 2. */
const RIGHT: Readonly<Record<string, number>> = { all: 20, 'a 128': 10, 'a 28': 5, 'r 128 seed 1': 8, 'r 128 seed 2': 6, blind: 2, free: 15 };
const ENTERING = { all: 256, 'a 128': 128, 'a 28': 40, 'r 128 seed 1': 128, 'r 128 seed 2': 128, free: 77 };
const results: Results = {
  header: HEADER,
  records: Array.from({ length: 10 }, (_, image) => ({
    image,
    questions: ['one', 'two'].map((group, i) => {
      const place = image + 10 * i;
      const said = Object.fromEntries(HEADER.conditions.map(({ key }) => [key, place < RIGHT[key]! ? 'yes' : 'no']));
      return { id: `${image} ${group}`, group, text: '?', reference: 'yes', said };
    }),
    entering: ENTERING,
    ...(image === 0 ? { time: { all: timeOf(40), 'a 128': timeOf(20), 'r 128 seed 1': timeOf(10), 'r 128 seed 2': timeOf(30) } } : {}),
  })),
};

function timeOf(total: number) {
  return { encode: total / 2, select: 1, prefill: total / 4, decode: 0, total };
}

const summary = summarize(results);
const cell = (row: string, budget?: number) => summary.cells.find((one) => one.row === row && one.budget === budget)!;

describe('a summary', () => {
  it('has the share of right answers with its interval, by group too', () => {
    expect(cell('a', 0.5).figure.value).toBe(0.5);
    // Wilson's at 10 of 20: (0.5 + z2 / 40) / (1 + z2 / 20) -+ ...
    expect(cell('a', 0.5).figure.low).toBeCloseTo(0.2993, 4);
    expect(cell('a', 0.5).figure.high).toBeCloseTo(0.7007, 4);
    expect(cell('a', 0.5).groups['one']).toMatchObject({ value: 1, questions: 10 });
    expect(cell('a', 0.5).groups['two']).toMatchObject({ value: 0, questions: 10 });
    expect(summary.commonest).toMatchObject({ one: { value: 1 } });
  });

  it('takes seeds together, as their mean, with an interval from the spread between images', () => {
    expect(cell('r', 0.5).seeds).toEqual({ 1: 0.4, 2: 0.3 });
    const { value, low, high } = cell('r', 0.5).figure;
    expect(value).toBeCloseTo(0.35, 12);
    // Means by image over both questions and seeds: 0.5 six times, 0.25 twice, 0 twice. Their standard deviation is sqrt(0.4 / 9), of the mean sqrt(0.4 / 90).
    const sd = Math.sqrt((6 * 0.15 ** 2 + 2 * 0.1 ** 2 + 2 * 0.35 ** 2) / 9 / 10);
    expect(high - value).toBeCloseTo(1.959964 * sd, 5);
    expect(value - low).toBeCloseTo(1.959964 * sd, 5);
  });

  it('has what entered as it was measured, and the times of all seeds', () => {
    expect(cell('a', 0.11).entering).toBe(40);
    expect(cell('r', 0.5).time).toMatchObject({ questions: 2, median: { total: 20 }, mean: { total: 20, encode: 10 }, quartiles: [15, 25] });
    expect(cell('a', 0.11).time).toBeUndefined();
  });

  it('pairs a row with the first at the same budget: what is hard for both does not widen the interval', () => {
    expect(summary.reference).toBe('a');
    const { value, low, high } = cell('r', 0.5).difference!;
    expect(value).toBeCloseTo(-0.15, 12);
    // By image, of two questions: r has 6 times 1, twice 0.5, twice 0 right; a has 10 times 1. Differences 0, -0.5, -1; of the mean of shares, half of that.
    const variance = (6 * 0.3 ** 2 + 2 * 0.2 ** 2 + 2 * 0.7 ** 2) / 9;
    expect(high - value).toBeCloseTo((1.959964 * Math.sqrt(variance / 10)) / 2, 5);
    expect(value - low).toBeCloseTo(high - value, 12);
    for (const one of ['a', 'all', 'blind', 'free'])
      for (const { difference } of summary.cells.filter(({ row }) => row === one)) expect(difference).toBeUndefined();
  });

  it('gives composite figures an interval from resampled images', () => {
    const asked = (image: number) => ({ id: String(image), group: 'existence', text: '?', reference: 'yes' as const });
    const mme = summarize({
      header: { ...HEADER, data: { ...HEADER.data, metric: 'mme' }, conditions: [{ key: 'all', row: 'all', budget: 1 }], unreachable: [] },
      records: Array.from({ length: 40 }, (_, image) => ({
        image,
        questions: [{ ...asked(image), said: { all: image % 2 ? 'yes' : 'no' } }],
        entering: {},
      })),
    });
    const [{ figure, details }] = mme.cells as [Summary['cells'][number]];
    expect(figure.value).toBe(100);
    expect(details['perception']).toEqual({ value: 100, unit: 'points' });
    // 200 times a share of 40 draws, each half and half: its standard deviation is 200 * sqrt(0.25 / 40) = 15.8
    expect(figure.high - figure.low).toBeGreaterThan(50);
    expect(figure.high - figure.low).toBeLessThan(75);
  });
});

describe('the tables', () => {
  const tables = summaryTables(summary);
  const row = (title: string, name: string): readonly string[] =>
    tables.find((table) => table.title.startsWith(title))!.rows.find(([first]) => first!.startsWith(name))!;

  it('have a column a budget, what entered where it is off, and the least that can be had', () => {
    expect(row('accuracy', 'tokens entering')).toEqual(['tokens entering a block, average', '128 (50%)', '28 (11%)']);
    expect(row('accuracy', 'a')[1]).toBe('100.0 (83.9-100.0)'); // all tokens
    const rows = tables[0]!.rows;
    expect(rows.find(([name]) => name === 'a')).toEqual(['a', '50.0 (29.9-70.1)', '25.0 (11.2-46.9) at 40']);
    expect(rows.find(([name]) => name === 'r')).toEqual(['r', expect.stringMatching(/^35\.0 /), '- (least 64.8)']);
    expect(rows.find(([name]) => name === 'free (77 tokens)')?.[1]).toMatch(/^75\.0 /);
  });

  it('list each seed, each group, the differences, and the times', () => {
    expect(row('difference to a', 'r')).toEqual(['r', '-15.0 (-28.1 to -1.9) *', '-']);
    expect(row('each seed', 'r, seed 2')).toEqual(['r, seed 2', '30.0', '-']);
    expect(row('by group', 'two').slice(0, 3)).toEqual(['two', '10', '100.0 (72.2-100.0)']);
    expect(row('ms a question', 'r')).toEqual(['r', '128', '2', '10.0', '1.0', '5.0', '0.0', '20.0', '15.0-25.0', '20.0']);
  });
});

describe('a report', () => {
  it('has one mark a row and budget in each plot, with its figures, and a line a method', async () => {
    const files = await reportFiles(summary, ['about <this>']);
    expect(Object.keys(files).sort()).toEqual(['accuracy-time.svg', 'accuracy-tokens.svg', 'index.html', 'tables.md']);
    const titles = (svg: string): string[] => [...svg.matchAll(/<title>([^<]*)<\/title>/g)].map(([, title]) => title!);
    expect(titles(files['accuracy-tokens.svg']!).sort()).toEqual([
      'a: 25.0 (11.2-46.9) at 40.0 tokens',
      'a: 50.0 (29.9-70.1) at 128.0 tokens, 20.0 ms',
      'all: 100.0 (83.9-100.0) at 256.0 tokens, 40.0 ms',
      'free: 75.0 (53.1-88.8) at 77.0 tokens',
      expect.stringMatching(/^r: 35\.0 .* at 128\.0 tokens, 20\.0 ms$/),
    ]);
    expect(titles(files['accuracy-time.svg']!)).toHaveLength(3);
    for (const name of ['a', 'r', 'free']) expect(files['accuracy-tokens.svg']).toContain(`>${name}</text>`);
    expect(files['tables.md']!.split('\n')).toContain('| a | 50.0 (29.9-70.1) | 25.0 (11.2-46.9) at 40 |');
    const page = files['index.html']!;
    expect(page).toContain('about &lt;this&gt;');
    expect(page.match(/xmlns="http:\/\/www.w3.org\/2000\/svg"/g)).toHaveLength(2 + 3);
    expect(page).toContain('<td>25.0 (11.2-46.9) at 40</td>');
    expect(page).not.toMatch(/(src|href)="/); // it stands alone
  });

  it('puts names apart that would stand in one another, in their order, and inside the frame where there is room', () => {
    const at = spread([5, 5, 4.9, 0], 1, 0);
    expect(at).toEqual([5, 4, 3, 0]);
    expect(spread([0.2, 0.1, 0], 1, 0)).toEqual([2, 1, 0]);
  });
});

describe('merged results', () => {
  const part = (pick: (image: number) => boolean, keys = HEADER.conditions.map(({ key }) => key)): Results => ({
    header: { ...HEADER, conditions: HEADER.conditions.filter(({ key }) => keys.includes(key)), shard: '1/2' },
    records: results.records
      .filter(({ image }) => pick(image))
      .map((record) => ({
        ...record,
        questions: record.questions.map((question) => ({
          ...question,
          said: Object.fromEntries(Object.entries(question.said).filter(([key]) => keys.includes(key))),
        })),
      })),
  });

  it('of shards are those of one run', () => {
    expect(mergeResults([part((image) => image % 2 === 1), part((image) => image % 2 === 0)])).toEqual(results);
  });

  it('of other methods on the same images are those of one run, on the images that all were asked about', () => {
    const merged = mergeResults([
      part((image) => image < 8, ['all', 'blind', 'a 128', 'a 28']),
      part(() => true, ['r 128 seed 1', 'r 128 seed 2', 'free']),
    ]);
    expect(merged.records).toEqual(results.records.slice(0, 8));
    expect(merged.header.conditions).toEqual(HEADER.conditions);
  });

  it('take times from a run of its own, of images that were asked about already', () => {
    const times: Results = { header: { ...HEADER, timed: 2 }, records: results.records.slice(0, 1) };
    const asked: Results = { header: { ...HEADER, timed: 0 }, records: results.records.map(({ time: _, ...record }) => record) };
    const merged = mergeResults([asked, times]);
    expect(merged.records).toEqual(results.records);
    expect(merged.header.timed).toBe(2);
  });

  it('of conditions that only share their name are refused', () => {
    const asked = (tokens: number): Results => ({
      ...results,
      header: { ...HEADER, conditions: [{ key: 'a 28', row: 'a', options: { method: 'dedup', tokens } }] },
    });
    expect(() => mergeResults([asked(28), asked(29)])).toThrow(
      expect.objectContaining({ code: 'RESULTS_APART', message: expect.stringContaining('29') }),
    );
    expect(mergeResults([asked(28), asked(28)]).header.conditions).toHaveLength(1);
  });

  it('of another model or data set are refused', () => {
    const other = { ...results, header: { ...HEADER, weights: 'xyz' } };
    expect(() => mergeResults([results, other])).toThrow(
      expect.objectContaining({ code: 'RESULTS_APART', message: expect.stringContaining('"xyz"') }),
    );
  });
});
