/**
 * Entropic optimal transport between n sources and n targets of equal mass (Sinkhorn; Cuturi 2013, https://arxiv.org/abs/1306.0895), broken off after
 * `iterations` rounds, each of which ends with the targets: every target gets its whole share.
 *
 * The row sums of the plan tend to one share each, whatever the costs are. What tells sources apart is the factor by which each would have to be held back for
 * that: what it would hand out if it were not, the exponential of minus its dual potential over epsilon. Sources of little cost have a high one.
 *
 * @param cost [n, n], row-major, source by source; finite
 * @param epsilon regularisation, above 0: small values follow the cost more closely
 * @returns what each source would hand out, [n]. After one round it is the softmax over the sources of each target, summed
 */
export function optimalTransport(
  cost: Float32Array,
  size: number,
  { epsilon, iterations }: { readonly epsilon: number; readonly iterations: number },
): Float32Array {
  const least = new Float64Array(size).fill(Number.POSITIVE_INFINITY); // of each target
  for (const [at, value] of cost.entries()) least[at % size] = Math.min(least[at % size]!, value);
  const kernel = Float64Array.from(cost, (value, at) => Math.exp((least[at % size]! - value) / epsilon)); // a factor of a target's own cancels out
  const sources = new Float64Array(size).fill(1);
  const targets = new Float64Array(size);
  const handedOut = new Float64Array(size); // by each source, were it not held back
  for (let round = 0; round < iterations; round++) {
    if (round > 0) for (let i = 0; i < size; i++) if (handedOut[i]! > 0) sources[i] = 1 / handedOut[i]!; // back to one share each
    targets.fill(0);
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) targets[j]! += sources[i]! * kernel[i * size + j]!;
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (let j = 0; j < size; j++) sum += kernel[i * size + j]! / targets[j]!;
      handedOut[i] = sum;
    }
  }
  return Float32Array.from(handedOut);
}
