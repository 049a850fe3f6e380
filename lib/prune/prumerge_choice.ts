import { type Pause, paced, type Steps } from '../pacer';
import { descendingOrder } from './ranking';
import { checkSimilarity } from './similarity';
import type { WeightedSum } from './weighted_sums';

/**
 * What PruMerge (Shang et al., ICCV 2025, https://arxiv.org/abs/2403.15388) decides about the N patches of a crop, without tensors.
 *
 * A kept patch i becomes x_i + the sum of a_j x_j over its nearest neighbours j by the cosine of their keys, kept ones among them; one more token is the sum
 * of a_j x_j over all that are not kept. The a_j are attention as it is, not normalised.
 */
export class PruMergeChooser {
  private readonly size: number;
  private readonly order: Int32Array;

  /**
   * @param attention [N], finite
   * @param similarity [N, N], row-major
   * @throws PruneError `FEATURES_NOT_FINITE`
   */
  constructor(
    private readonly attention: Float32Array,
    private readonly similarity: Float32Array,
  ) {
    this.size = attention.length;
    checkSimilarity(similarity, this.size);
    this.order = descendingOrder(attention);
  }

  /** Patches kept, in the order of their tokens: the outliers by falling attention; with `plus`, then those of a grid, the denser the more outliers there are. */
  adaptive(plus: boolean): Int32Array {
    const outliers = outlierCount(this.attention);
    const chosen = this.order.slice(0, outliers);
    if (!plus) return chosen;
    const stride = Math.floor(Math.floor(this.size / Math.max(1, outliers)) / 3);
    return this.withGrid(chosen, Math.max(1, stride));
  }

  /** The same for `tokens` tokens in all, 1 to N. */
  fixed(tokens: number, plus: boolean): Int32Array {
    if (!plus || tokens === 1) return this.order.slice(0, tokens - 1);
    let stride = Math.max(1, Math.round((1.25 * this.size) / tokens));
    while (gridSize(this.size, stride) > Math.floor((5 * tokens) / 6)) stride++; // which is T - 1 at most
    let highest = 0;
    for (let missing = tokens - 1 - gridSize(this.size, stride); missing > 0; highest++) {
      if (!onGrid(this.order[highest]!, this.size, stride)) missing--;
    }
    return this.withGrid(this.order.slice(0, highest), stride);
  }

  /** The token of each kept patch, then the one of all others. */
  sums(chosen: Int32Array, neighbours: number, pause: Pause): Promise<WeightedSum[]> {
    return paced(this.summing(chosen, neighbours), pause);
  }

  /** As `MergedTokens.members` has them. */
  members(chosen: Int32Array, sums: readonly WeightedSum[]): Int32Array[] {
    return sums.map(({ rows }, i) => (i < chosen.length ? rows : Int32Array.of(-1, ...rows)));
  }

  private *summing(chosen: Int32Array, neighbours: number): Steps<WeightedSum[]> {
    const sums: WeightedSum[] = [];
    for (const [i, patch] of chosen.entries()) {
      const row = this.similarity.subarray(patch * this.size, (patch + 1) * this.size);
      const nearest = descendingOrder(row)
        .filter((other) => other !== patch)
        .subarray(0, neighbours)
        .sort();
      sums.push({ rows: Int32Array.of(patch, ...nearest), weights: Float32Array.of(1, ...this.weightsOf(nearest)) });
      if (i % 64 === 63) yield; // about 10 ms of 576 patches
    }
    const kept = new Set(chosen);
    const others = Int32Array.from({ length: this.size }, (_, patch) => patch).filter((patch) => !kept.has(patch));
    sums.push({ rows: others, weights: this.weightsOf(others) });
    return sums;
  }

  private weightsOf(patches: Int32Array): Float32Array {
    return Float32Array.from(patches, (patch) => this.attention[patch]!);
  }

  private withGrid(chosen: Int32Array, stride: number): Int32Array {
    const first = new Set(chosen);
    const grid = Int32Array.from({ length: gridSize(this.size, stride) }, (_, i) => i * stride).filter((patch) => !first.has(patch));
    return Int32Array.of(...chosen, ...grid);
  }
}

/** Places of the grid: every `stride`-th patch of all but the last. */
function gridSize(size: number, stride: number): number {
  return Math.ceil((size - 1) / stride);
}

function onGrid(patch: number, size: number, stride: number): boolean {
  return patch % stride === 0 && patch < size - 1;
}

/** How many values lie more than one and a half times the distance of the quartiles above the third. Quartiles are interpolated linearly. */
export function outlierCount(values: Float32Array): number {
  const sorted = values.slice().sort();
  const quantile = (share: number): number => {
    const place = share * (sorted.length - 1);
    const below = Math.floor(place);
    const low = sorted[below]!;
    return low + (place - below) * ((sorted[below + 1] ?? low) - low);
  };
  const [first, third] = [quantile(0.25), quantile(0.75)];
  return values.filter((value) => value > third + 1.5 * (third - first)).length;
}
