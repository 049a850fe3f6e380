import { Random } from '../random';

export interface BoxSearchOptions {
  /** Coordinates of a point, each in 0 to 1. */
  readonly dimensions: number;
  /** Points that are tried in all, 1 or more. */
  readonly calls: number;
  /** How many of them are drawn uniformly, before the search stays near the best one. */
  readonly initial: number;
  readonly seed: number;
}

export interface BoxPoint {
  readonly point: readonly number[];
  readonly value: number;
}

/** Largest and smallest step in a coordinate, as a standard deviation. */
const [WIDEST, NARROWEST] = [0.3, 0.02];
/** A step that helps makes the next ones wider, one that does not narrower: in balance when one in five helps (Rechenberg 1973). */
const [WIDER, NARROWER] = [1.5, 1.5 ** -0.25];

/**
 * The highest value of a dear function over the unit cube that a seeded search finds: uniform points first, then normal steps from the best one so far, whose
 * width follows its success. The same seed tries the same points as long as the values are the same.
 */
export async function searchBox(evaluate: (point: readonly number[]) => Promise<number>, options: BoxSearchOptions): Promise<BoxPoint> {
  const { dimensions, calls, initial, seed } = options;
  const random = new Random(seed);
  let best: BoxPoint | undefined;
  let width = WIDEST;
  for (let call = 0; call < calls; call++) {
    const from = call >= initial ? best : undefined;
    const point = Array.from({ length: dimensions }, (_, i) =>
      from ? reflected((from.point[i] as number) + width * random.normal()) : random.uniform(),
    );
    const value = await evaluate(point);
    const better = !best || value > best.value;
    if (from) width = Math.min(WIDEST, Math.max(NARROWEST, width * (better ? WIDER : NARROWER)));
    if (better) best = { point, value };
  }
  return best as BoxPoint;
}

/** Brought back into 0 to 1 at the borders. */
function reflected(value: number): number {
  const folded = Math.abs(value) % 2;
  return folded > 1 ? 2 - folded : folded;
}
