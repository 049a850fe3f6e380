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
