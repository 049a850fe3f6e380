import { cpus } from 'node:os';
import * as tf from '@tensorflow/tfjs';
import { selectTokens, useBackend, visPruner } from '../lib/index';

/** Milliseconds that VisPruner takes to choose, and how much of it is the plain arithmetic after the backend's product. `ts-node bench/selection.ts [backend]` */
async function main(backend: string): Promise<void> {
  await useBackend(backend as 'wasm');
  console.log(`VisPruner's choice on ${backend}, ${cpus()[0]?.model.trim()}, Node ${process.version}; median of ${RUNS} (lowest)\n`);
  console.log('| N | C | T | whole, ms | arithmetic alone, ms |\n|---|---|---|---|---|');
  for (const [patches, width, budgets] of CASES) {
    const features = tf.randomNormal<tf.Rank.R2>([patches, width], 0, 1, 'float32', 1);
    const attention = tf.softmax(tf.randomNormal<tf.Rank.R2>([HEADS, patches], 0, 1, 'float32', 2));
    const { scores, similarity } = await downloaded(features, attention);
    for (const tokens of budgets) {
      const whole = await timed(() => visPruner(features, attention, { tokens }));
      const arithmetic = await timed(() => Promise.resolve(selectTokens(scores, similarity, { tokens })));
      console.log(`| ${patches} | ${width} | ${tokens} | ${whole} | ${arithmetic} |`);
    }
    tf.dispose([features, attention]);
  }
}

const RUNS = 30;
const HEADS = 16;

/** The shipped model's shape, and LLaVA-1.5's, at about 50, 22, 11 and 5.6% of the patches. */
const CASES: readonly [number, number, readonly number[]][] = [
  [256, 128, [128, 56, 28, 14]],
  [576, 1024, [288, 128, 64, 32]],
];

async function downloaded(features: tf.Tensor2D, attention: tf.Tensor2D): Promise<{ scores: Float32Array; similarity: Float32Array }> {
  const [mean, product] = tf.tidy(() => {
    const unit = tf.div<tf.Tensor2D>(features, tf.norm(features, 2, 1, true));
    return [tf.mean(attention, 0), tf.matMul(unit, tf.transpose(unit))];
  });
  const [scores, similarity] = (await Promise.all([mean?.data(), product?.data()])) as [Float32Array, Float32Array];
  tf.dispose([mean, product] as tf.Tensor[]);
  return { scores, similarity };
}

async function timed(run: () => Promise<Int32Array>): Promise<string> {
  for (let i = 0; i < 5; i++) await run();
  const times: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    const begun = performance.now();
    await run();
    times.push(performance.now() - begun);
  }
  times.sort((a, b) => a - b);
  return `${times[RUNS / 2]?.toFixed(2)} (${times[0]?.toFixed(2)})`;
}

main(process.argv[2] ?? 'wasm').catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
