import { Random } from '../random';

/** How many of `total` answers were right. */
export interface Tally {
  readonly right: number;
  readonly total: number;
}

/** A share with its 95% interval, all in 0..1. */
export interface Proportion extends Tally {
  readonly share: number;
  readonly low: number;
  readonly high: number;
}

/** A value with its 95% interval. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

const Z_95 = 1.959963984540054;

/**
 * Wilson's score interval (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953) at 95%. It takes answers as independent:
 * questions about one image are not quite, so the true interval is a little wider. Nothing asked: the whole of 0..1.
 */
export function wilson({ right, total }: Tally): Proportion {
  if (total === 0) return { right, total, share: Number.NaN, low: 0, high: 1 };
  const share = right / total;
  const z2 = Z_95 * Z_95;
  const centre = (share + z2 / (2 * total)) / (1 + z2 / total);
  const half = (Z_95 * Math.sqrt((share * (1 - share)) / total + z2 / (4 * total * total))) / (1 + z2 / total);
  return { right, total, share, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

const RESAMPLES = 1000;

/**
 * The 95% interval of a statistic by the bootstrap (Efron 1979, percentiles of 1,000 resamples, always the same ones): clusters, the images with all that
 * was asked of each, are drawn with replacement.
 *
 * @param clusters what each image adds to the sums that `value` is computed from; all of one length
 */
export function bootstrap(clusters: readonly (readonly number[])[], value: (sums: readonly number[]) => number): Estimate {
  const width = clusters[0]?.length ?? 0;
  const flat = Float64Array.from(clusters.flat());
  const sumOf = (pick: (i: number) => number): number[] => {
    const sums = new Float64Array(width);
    for (let i = 0; i < clusters.length; i++) {
      const start = pick(i) * width;
      for (let j = 0; j < width; j++) sums[j]! += flat[start + j]!;
    }
    return Array.from(sums);
  };
  const random = new Random(0);
  const drawn = Array.from({ length: RESAMPLES }, () => value(sumOf(() => random.below(clusters.length))));
  const sorted = drawn.filter((one) => !Number.isNaN(one)).sort((a, b) => a - b);
  return { value: value(sumOf((i) => i)), low: percentile(sorted, 0.025), high: percentile(sorted, 0.975) };
}

/** By linear interpolation; NaN of nothing. */
export function percentile(sorted: readonly number[], share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const low = sorted[below] as number;
  return low + (place - below) * ((sorted[Math.min(below + 1, sorted.length - 1)] as number) - low);
}

/**
 * A mean over questions with its normal 95% interval, from the spread between images (a ratio estimator's linearised variance): questions about one image
 * are not taken as independent.
 *
 * @param images of each image, the sum of the scores of its questions and their number
 */
export function clusteredMean(images: readonly { readonly score: number; readonly total: number }[]): Estimate {
  const total = images.reduce((sum, image) => sum + image.total, 0);
  const value = images.reduce((sum, image) => sum + image.score, 0) / total;
  const asked = images.filter((image) => image.total > 0);
  if (asked.length < 2) return { value, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  const squares = asked.reduce((sum, image) => sum + (image.score - value * image.total) ** 2, 0);
  const half = (Z_95 * Math.sqrt((squares * asked.length) / (asked.length - 1))) / total;
  return { value, low: value - half, high: value + half };
}
