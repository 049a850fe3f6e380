/** One type of weights for verify_cuda.ts: node verify_worker PLAN BACKEND. Each finding goes to the parent as a message, so that a crash loses none. */
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { type BackendName, loadModel, readSafetensors, useBackend, type WeightDtype } from '../lib/index';
import { bindingPatch } from './bare_operations';
import { answers, FIXTURES, type Finding, float32Cases, halfCases, SHIPPED } from './verify_fixtures';
import { rates } from './verify_rates';

export interface Plan {
  readonly title: string;
  readonly dtype: WeightDtype;
  /** float32 products are computed in float32. */
  readonly exact: boolean;
}

function device(): string {
  const backend = tf.findBackend('tensorflow') as { isUsingGpuDevice?: boolean } | null;
  return backend?.isUsingGpuDevice ? 'GPU' : 'processor';
}

function tell(finding: Finding): Promise<void> {
  return new Promise((resolve) => process.send?.(finding, () => resolve()));
}

/** Runs one check; what it throws is its finding. */
async function check(what: string, run: () => Promise<Omit<Finding, 'what'>>): Promise<void> {
  const before = tf.memory().numTensors;
  try {
    const { found, right } = await run();
    const left = tf.memory().numTensors - before;
    await tell({
      what,
      found: left === 0 ? found : `${found}; ${left} tensors are left`,
      right: right !== undefined ? right && left === 0 : undefined,
    });
  } catch (error) {
    await tell({ what, found: error instanceof Error ? `${error.name}: ${error.message}` : String(error), right: false });
  }
}

async function main({ dtype, exact }: Plan, backend: BackendName): Promise<void> {
  await useBackend(backend);
  await tell({ what: 'binding', found: `additions of version ${bindingPatch()}; TensorFlow's device: ${device()}` });
  const reference = await readSafetensors(path.join(FIXTURES, 'gqa', 'reference.safetensors'));
  const half = await readSafetensors(path.join(FIXTURES, 'half.safetensors'));
  if (dtype === 'float32') {
    const model = await loadModel(path.join(FIXTURES, 'gqa'), { backend, dtype });
    for (const one of float32Cases(exact)) await check(one.title, () => one.run(model, reference));
    model.dispose();
  } else {
    for (const one of halfCases(dtype)) await check(one.title, () => one.run(half, backend));
  }
  await check('the shipped model', async () => {
    const model = await loadModel(SHIPPED, { backend, dtype });
    try {
      return await answers(model);
    } finally {
      model.dispose();
    }
  });
  for (const rows of [1, 8, 128, 640]) await check(`${rows} rows x [4096, 4096]`, async () => ({ found: await rates(rows, dtype, backend) }));
  await reference.close();
  await half.close();
}

main(JSON.parse(process.argv[2] as string) as Plan, process.argv[3] as BackendName).then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
