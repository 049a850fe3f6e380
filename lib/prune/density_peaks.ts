import type { Steps } from '../pacer';

/** Distances between two pauses. */
const WORK_A_STEP = 2 ** 21;

/** Points in clusters around density peaks. */
export interface Clusters {
  /** For each cluster, the point at its centre; the cluster of the highest peak first. */
  readonly centres: Int32Array;
  /** For each point, its cluster. */
  readonly cluster: Int32Array;
}

/**
 * Clusters by density peaks with nearest neighbours, DPC-KNN (Du et al. 2016, as SparseVLM uses it). Distances are Euclidean, divided by the root of the width. A
 * point's density is exp(-mean of the squared distances to its `count` nearest points, itself among them); its delta is the distance to the nearest denser
 * point, the largest distance of all where there is none. The `count` points with the highest density * delta are centres, and every other point joins the
 * nearest of them.
 *
 * Differs from the reference: no noise is added to the densities; of equal ones, the earlier point counts as the denser. Other ties go to the earlier, too.
 *
 * @param rows [n, width]
 */
export function* densityPeaks(rows: Float32Array, width: number, count: number): Steps<Clusters> {
  const n = rows.length / width;
  const distances = yield* distancesBetween(rows, n, width);
  const at = (i: number) => distances.subarray(i * n, (i + 1) * n);
  const density = Float64Array.from({ length: n }, (_, i) => {
    const nearest = Float64Array.from(at(i)).sort().subarray(0, count);
    return Math.exp(-nearest.reduce((sum, distance) => sum + distance * distance, 0) / nearest.length);
  });
  yield;
  const largest = distances.reduce((most, distance) => Math.max(most, distance), 0);
  const peak = Float64Array.from(density, (own, i) => {
    let delta = largest;
    for (const [j, distance] of at(i).entries()) {
      const other = density[j] as number;
      if (distance < delta && (other > own || (other === own && j < i))) delta = distance;
    }
    return own * delta;
  });
  const order = Int32Array.from(peak.keys()).sort((a, b) => (peak[b] as number) - (peak[a] as number) || a - b);
  const centres = order.slice(0, count);
  const cluster = Int32Array.from({ length: n }, (_, i) => {
    let best = 0;
    for (const [c, centre] of centres.entries()) if ((at(i)[centre] as number) < (at(i)[centres[best] as number] as number)) best = c;
    return best;
  });
  for (const [c, centre] of centres.entries()) cluster[centre] = c;
  return { centres, cluster };
}

/** [n, n] */
function* distancesBetween(rows: Float32Array, n: number, width: number): Steps<Float64Array> {
  const distances = new Float64Array(n * n);
  let work = 0;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) {
      let sum = 0;
      for (let a = i * width, b = j * width; a < (i + 1) * width; a++, b++) sum += ((rows[a] as number) - (rows[b] as number)) ** 2;
      const distance = Math.sqrt(sum / width);
      distances[i * n + j] = distance;
      distances[j * n + i] = distance;
    }
    work += i * width;
    if (work > WORK_A_STEP) {
      work = 0;
      yield;
    }
  }
  return distances;
}
