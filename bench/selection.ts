/**
 * What each method's choice costs, in milliseconds, on LLaVA-1.5-7B's widths with random weights: 576 patches of 1,024 numbers, decoder states of 4,096.
 *
 *   npm run bench:selection                                        all methods
 *   npm run bench:selection -- --methods vispruner,fastv --backend wasm --blocks 4 --runs 5
 *
 * The encoder has 4 blocks and the decoder a few (`--blocks`), for the hooks of a method are the same in each; lists of blocks are scaled to them. Timed are the
 * method's own hooks, inside real calls: what else its merging or dropping saves or costs is in the time per question of "vispruner eval".
 */
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {
  type BackendName,
  buildModel,
  createPruner,
  type EncoderReducer,
  METHODS,
  type PreparedImage,
  type PruneOptions,
  type Pruner,
  type PruningRun,
  Random,
} from '../lib/index';
import { IMAGE_SIDE, IMAGE_TOKEN, llava7b, PATCHES, WIDTH } from './llava_7b';
import { machine } from './machine';
import { median, table } from './statistics';

/** Average visual tokens entering a block that are asked for, the first that a method can reach. */
const AVERAGES = [64, 128, 192, 288, 400];
const VISION_BLOCKS = 4;
const PROMPT = [1, ...Array.from({ length: 34 }, (_, i) => 100 + i), IMAGE_TOKEN, ...Array.from({ length: 30 }, (_, i) => 200 + i)];

type Place = 'encoder' | 'select' | 'decoder';
type Spent = Record<Place, number>;
type Anything = (...given: never[]) => Promise<unknown>;

/** The same pruner; what its hooks take is added to `spent`. */
function timed(pruner: Pruner, spent: Spent): Pruner {
  const timing = <F extends Anything>(place: Place, hook: F): F =>
    (async (...given: Parameters<F>) => {
      const begun = performance.now();
      try {
        return await hook(...given);
      } finally {
        spent[place] += performance.now() - begun;
      }
    }) as unknown as F;
  const hooks = <T extends object>(owner: T, names: readonly (keyof T)[], place: Place): Partial<T> =>
    Object.fromEntries(
      names.flatMap((name) => {
        const hook = owner[name];
        return typeof hook === 'function' ? [[name, timing(place, hook.bind(owner) as Anything)]] : [];
      }),
    ) as Partial<T>;
  return {
    name: pruner.name,
    textDependent: pruner.textDependent,
    positions: pruner.positions,
    ...(pruner.selectionPositions ? { selectionPositions: pruner.selectionPositions } : {}),
    needs(encoder) {
      const needs = pruner.needs(encoder);
      const reducer: EncoderReducer | undefined = needs.encoder && {
        ...needs.encoder,
        ...hooks(needs.encoder, ['afterAttention', 'afterBlock'], 'encoder'),
      };
      return { ...needs, ...(reducer ? { encoder: reducer } : {}) };
    },
    enteringTokens: (patches, blocks) => pruner.enteringTokens(patches, blocks),
    begin(request) {
      const run = pruner.begin(request);
      const decoderHooks: readonly (keyof PruningRun)[] = ['beforeBlock', 'afterAttention', 'afterBlock', 'afterPrefill'];
      return { ...hooks(run, ['select'], 'select'), ...hooks(run, decoderHooks, 'decoder'), dispose: () => run.dispose() };
    },
  };
}

/** As many prototypes as the released codebook of LLaVA-1.5 has, at random. */
function codebook(): number[][] {
  const random = new Random(5);
  return Array.from({ length: 454 }, () => Array.from({ length: WIDTH }, () => random.between(-1, 1)));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      methods: { type: 'string' },
      backend: { type: 'string', default: 'auto' },
      blocks: { type: 'string', default: '6' },
      runs: { type: 'string', default: '5' },
    },
  });
  const [blocks, runs] = [Number(values.blocks), Number(values.runs)];
  const config = llava7b(blocks, 'float32') as { vision_config: object };
  const model = await buildModel(
    { ...config, vision_config: { ...config.vision_config, num_hidden_layers: VISION_BLOCKS } },
    { seed: 1, backend: values.backend as BackendName | 'auto' },
  );
  console.log(
    `${machine(model.backend)}\nLLaVA-1.5-7B's widths, ${blocks} decoder blocks, ${model.dtype}, ${PATCHES} patches, ${PROMPT.length - 1} tokens of text; median of ${runs}\n`,
  );
  const side = Math.sqrt(PATCHES);
  const image: PreparedImage = {
    pixelValues: tf.randomNormal([1, IMAGE_SIDE, IMAGE_SIDE, 3], 0, 1, 'float32', 3) as tf.Tensor4D,
    originalSize: { width: IMAGE_SIDE, height: IMAGE_SIDE },
    grid: { rows: side, columns: side },
  };
  const rows: string[][] = [];
  for (const [name, method] of Object.entries(METHODS)) {
    if (values.methods && !values.methods.split(',').includes(name)) continue;
    const facts = { patches: PATCHES, decoderBlocks: blocks, encoderBlocks: VISION_BLOCKS - 1 };
    const offered = AVERAGES.map((average) =>
      (method.forAverage as ((average: number, of: typeof facts) => PruneOptions | undefined) | undefined)?.(average, facts),
    );
    const budget = offered.find((one) => one !== undefined) ?? (method.example as PruneOptions);
    const options = name === 'prototypes' ? ({ ...budget, prototypes: codebook() } as PruneOptions) : budget;
    rows.push([name, ...(await measure(options))]);
    console.error(rows.at(-1)?.join(' | '));
  }
  console.log(
    table(['method', 'tokens, average', 'in the encoder, ms', 'before the decoder, ms', 'in the decoder, ms', 'together, ms', 'lowest'], rows),
  );
  image.pixelValues.dispose();
  model.dispose();

  async function measure(options: PruneOptions): Promise<string[]> {
    const totals: Spent[] = [];
    let tokens = 0;
    try {
      for (let i = 0; i <= runs; i++) {
        const spent: Spent = { encoder: 0, select: 0, decoder: 0 };
        const { usage } = await model.generate(
          { inputIds: PROMPT, images: [image] },
          { prune: timed(createPruner(options), spent), maxNewTokens: 1 },
        );
        tokens = usage.enteringTokens.reduce((sum, count) => sum + count, 0) / blocks;
        if (i > 0) totals.push(spent); // the first warms up
      }
    } catch (error) {
      return ['-', '-', '-', '-', error instanceof Error ? error.message.slice(0, 60) : String(error), '-'];
    }
    const sums = totals.map(({ encoder, select, decoder }) => encoder + select + decoder);
    const parts = (['encoder', 'select', 'decoder'] as const).map((place) => median(totals.map((one) => one[place])).toFixed(1));
    return [tokens.toFixed(0), ...parts, median(sums).toFixed(1), Math.min(...sums).toFixed(1)];
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
