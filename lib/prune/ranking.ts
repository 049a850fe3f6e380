/** Indices of `scores` from the highest to the lowest; of equal ones the lower index first. NaN is the caller's to refuse. */
export function descendingOrder(scores: Float32Array): Int32Array {
  return Int32Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
}

/** The `count` highest of `scores`, as ascending indices; ties at the border go to the lower index. */
export function highest(scores: Float32Array, count: number): Int32Array {
  return descendingOrder(scores).subarray(0, count).sort();
}
