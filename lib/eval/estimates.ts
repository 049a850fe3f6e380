import { bootstrap, clusteredMean, type Estimate, wilson } from './interval';
import { addCounts, type Counts, type Metric } from './metric';

/** What was counted, by seed and image. */
export type SeedCounts = readonly (readonly Counts[])[];

/** Scores summed over some questions of an image. */
export interface ImageScore {
  readonly score: number;
  readonly total: number;
}

/** How the interval of a first figure is made. */
export const INTERVALS: Readonly<Record<Metric['kind'], string>> = {
  share: "Wilson's over questions; of several seeds together, normal over images",
  mean: 'normal over images',
  composite: 'bootstrap over images',
};

/** The first figure, as the mean over seeds, with its 95% interval. */
export function estimateOf(counts: SeedCounts, metric: Metric): Estimate {
  if (metric.kind === 'composite') return composite([counts], metric);
  return estimateOfScores(
    counts.map((images) => images.map(scoreOf)),
    metric,
  );
}

/** The mean of scores, of one list of images a seed. */
export function estimateOfScores(seeds: readonly (readonly ImageScore[])[], metric: Metric): Estimate {
  const [only = [], ...others] = seeds;
  if (metric.kind !== 'share' || others.length > 0) return withinShares(clusteredMean(meanOverSeeds(seeds)));
  const sum = (name: keyof ImageScore): number => only.reduce((total, image) => total + image[name], 0);
  const { share, low, high } = wilson({ right: sum('score'), total: sum('total') });
  return { value: share, low, high };
}

/**
 * How much higher the first figure is in `a` than in `b`, where both were asked the same about the same images: of each image the difference is taken, so
 * that what makes questions hard for both does not widen the interval.
 */
export function differenceOf(a: SeedCounts, b: SeedCounts, metric: Metric): Estimate {
  if (metric.kind === 'composite') return composite([a, b], metric);
  const [mine, theirs] = [a, b].map((counts) => meanOverSeeds(counts.map((images) => images.map(scoreOf)))) as [ImageScore[], ImageScore[]];
  return clusteredMean(mine.map(({ score, total }, i) => ({ score: score - (theirs[i]?.score ?? 0), total })));
}

/** Of one set of counts its figure, of two the first's less the second's. */
function composite(all: readonly SeedCounts[], metric: Metric): Estimate {
  const names = [...new Set(all.flatMap((counts) => counts.flatMap((images) => Object.keys(addCounts(images)))))];
  const seeds = all.flat();
  const clusters = (seeds[0] ?? []).map((_, i) => seeds.flatMap((images) => names.map((name) => images[i]?.[name] ?? 0)));
  const figures = (sums: readonly number[]): number[] =>
    seeds.map((_, seed) => metric.value(Object.fromEntries(names.map((name, j) => [name, sums[seed * names.length + j] as number]))));
  return bootstrap(clusters, (sums) => {
    const found = figures(sums);
    const first = all[0]?.length ?? 0;
    return all.length === 1 ? mean(found) : mean(found.slice(0, first)) - mean(found.slice(first));
  });
}

function scoreOf(counts: Counts): ImageScore {
  return { score: counts['score'] ?? 0, total: counts['total'] ?? 0 };
}

function meanOverSeeds(seeds: readonly (readonly ImageScore[])[]): ImageScore[] {
  return (seeds[0] ?? []).map(({ total }, i) => ({ score: mean(seeds.map((images) => images[i]?.score ?? 0)), total }));
}

function withinShares({ value, low, high }: Estimate): Estimate {
  return { value, low: Math.max(0, low), high: Math.min(1, high) };
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
