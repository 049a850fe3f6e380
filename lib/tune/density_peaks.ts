import * as tf from '@tensorflow/tfjs';
import { type Pause, paced, type Steps } from '../pacer';

/** Neighbours that make a point's density, itself among them: as in TCFormer's code. */
const NEIGHBOURS = 5;

/**
 * Density-peak clustering with k nearest neighbours (Du et al. 2016; https://arxiv.org/abs/2204.08680 for tokens): a point's density is
 * exp(-mean of the squared distances to its 5 nearest, itself included), its peak the distance to the nearest denser point; the points with the largest
 * product are centres, and every other one belongs to the nearest of them. Distances are divided by the root of the width.
 *
 * Differs from the reference: of equally dense points the earlier counts as denser, where random noise decides there.
 *
 * @param points [n, D]; borrowed
 * @param clusters at most; no more than there are points
 * @param pause awaited between steps of the work; whatever it throws ends it
 * @returns [n], each point's cluster, from 0 on
 */
export async function densityPeaks(points: tf.Tensor2D, clusters: number, pause: Pause): Promise<Int32Array> {
  const [size, width] = points.shape;
  const squares = tf.tidy(() => {
    const lengths = tf.sum(tf.square(points), 1, true); // [n, 1]
    const products = tf.matMul(points, tf.transpose(points));
    return tf.div(tf.add(tf.sub(lengths, tf.mul(products, 2)), tf.transpose(lengths)), width); // [n, n]
  });
  try {
    const distances = ((await squares.data()) as Float32Array).map((square) => Math.sqrt(Math.max(0, square)));
    return await paced(peaks(distances, size, Math.min(clusters, size)), pause);
  } finally {
    squares.dispose();
  }
}

function* peaks(distances: Float32Array, size: number, clusters: number): Steps<Int32Array> {
  const between = (a: number, b: number) => (a === b ? 0 : distances[a * size + b]!);
  const everyone = Array.from({ length: size }, (_, i) => i);
  const densities = new Float64Array(size);
  for (const i of everyone) {
    const nearest = everyone
      .map((j) => between(i, j))
      .sort((a, b) => a - b)
      .slice(0, NEIGHBOURS);
    densities[i] = Math.exp(-nearest.reduce((sum, distance) => sum + distance ** 2, 0) / nearest.length);
    yield;
  }
  const farthest = distances.reduce((most, distance) => Math.max(most, distance), 0);
  const denser = (a: number, b: number) => densities[a]! > densities[b]! || (densities[a] === densities[b] && a < b);
  const scores = everyone.map((i) => {
    const peak = everyone.reduce((least, j) => (denser(j, i) ? Math.min(least, between(i, j)) : least), Number.POSITIVE_INFINITY);
    return densities[i]! * Math.min(peak, farthest);
  });
  const centres = [...everyone].sort((a, b) => scores[b]! - scores[a]! || a - b).slice(0, clusters);
  return Int32Array.from(everyone, (i) => {
    const own = centres.indexOf(i);
    if (own >= 0) return own;
    return centres.reduce((best, centre, cluster) => (between(i, centre) < between(i, centres[best]!) ? cluster : best), 0);
  });
}
