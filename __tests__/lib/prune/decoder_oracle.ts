import * as tf from '@tensorflow/tfjs';
import { Llama, type LlamaShape } from '../../../layers/llama';
import { prefill } from '../../../lib/decoder';
import { Pacer } from '../../../lib/pacer';
import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import type { DecoderView, PruningRun, Reduction } from '../../../lib/prune/types';
import { Sequence } from '../../../lib/sequence';
import { BACKENDS, useBackend } from '../../support/backends';
import { expectClose } from '../../support/compare';
import { HeldParameters } from '../../support/held_parameters';
import { RecordedFile, readJson } from '../../support/recorded';
import { clip } from './views';

/** As `make/make_decoder_methods.py` has it. */
export const ORACLE_SHAPE: LlamaShape = {
  vocab_size: 8,
  hidden_size: 24,
  intermediate_size: 32,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: true,
  rope_parameters: { rope_type: 'default', rope_theta: 10000 },
};
const GRID = { rows: 4, columns: 6 };
const PATCHES = 24;
const FIRST = 5;

interface RecordedCase {
  readonly options: PruneOptions;
  /** After each drop: the block that it was made before, in or after, and the first indices of the visual tokens that were left, -1 for merged ones. */
  readonly left: readonly { readonly block: number; readonly left: readonly number[] }[];
  /** The last row's state behind the last block. */
  readonly last: readonly number[];
}

/** Runs every recorded case of a method through the decoder's own loop, on every backend; `prepare` shows the run what it sees before the decoder. */
export function describeRecorded(name: string, prepare?: (run: PruningRun) => Promise<void>): void {
  const cases = readJson<RecordedCase[]>('methods', `${name}.json`);
  describe.each(BACKENDS)(`${name}, worked out by hand in numpy, on %s`, (backend) => {
    let parameters: HeldParameters;
    let llama: Llama;
    let states: tf.Tensor2D;

    beforeAll(async () => {
      await useBackend(backend);
      const file = new RecordedFile('methods', 'decoder.safetensors');
      parameters = new HeldParameters((key) => file.get(key));
      llama = new Llama(parameters, ORACLE_SHAPE);
      states = file.tensor('embeddings') as tf.Tensor2D;
    });
    afterAll(() => {
      parameters.dispose();
      states.dispose();
    });

    it.each(cases.map((one) => [JSON.stringify(one.options), one] as const))(
      'leaves the same tokens and the same last state for %s',
      async (_, one) => {
        const before = tf.memory().numTensors;
        const { left, last, entering } = await run(llama, states, one.options, prepare);
        expect(left).toEqual(one.left);
        await expectClose(last, { shape: [one.last.length], values: Float32Array.from(one.last) }, 'last state');
        const formula = createPruner(one.options).enteringTokens(PATCHES, ORACLE_SHAPE.num_hidden_layers);
        if (formula) expect(entering).toEqual(formula);
        last.dispose();
        expect(tf.memory().numTensors).toBe(before);
      },
    );
  });
}

/** What one prefill of the recorded embeddings leaves; the caller disposes the last state. */
export interface OracleOutcome {
  readonly left: RecordedCase['left'];
  readonly last: tf.Tensor2D;
  readonly entering: readonly number[] | undefined;
}

/** One prefill of the recorded embeddings, whose patches are of one crop or of several of the same size. */
export async function run(
  llama: Llama,
  states: tf.Tensor2D,
  options: PruneOptions,
  prepare?: (run: PruningRun) => Promise<void>,
  crops = 1,
): Promise<OracleOutcome> {
  const pruner = createPruner(options);
  const left: { block: number; left: number[] }[] = [];
  const grids = Array.from({ length: crops }, () => ({ rows: GRID.rows / crops, columns: GRID.columns }));
  const patchesPerCrop = grids.map(({ rows, columns }) => rows * columns);
  const request = { encoder: clip, decoderBlocks: llama.blocks.length, patchesPerCrop, grids };
  const watched = watch(pruner.begin(request), (block, indices) => left.push({ block, left: indices }));
  await prepare?.(watched);
  const sequence = new Sequence(llama.newCaches(), pruner.positions);
  const visualRows = Int32Array.from({ length: PATCHES }, (_, i) => FIRST + i);
  const blockInput = pruner.needs(clip).blockInput ?? false;
  const result = await prefill(llama, [{ sequence, states, visualRows, pruning: { run: watched, blockInput } }], { pacer: new Pacer() });
  const [count] = result.states.shape;
  const last = tf.tidy(() => tf.slice(result.states, [count - 1, 0], [1, -1]));
  result.states.dispose();
  sequence.dispose();
  watched.dispose();
  return { left, last, entering: result.enteringTokens[0] };
}

type Hook = (view: DecoderView) => Promise<Reduction | undefined>;

/** The run, with whatever it leaves told to `note`. */
function watch(run: PruningRun, note: (block: number, left: number[]) => void): PruningRun {
  const watched = (hook: Hook | undefined): Hook | undefined =>
    hook &&
    (async (view) => {
      const reduction = await hook.call(run, view);
      if (reduction) {
        const kept = Array.from(reduction.keep, (index) => view.originalIndices[index] as number);
        note(view.block, [...kept, ...Array.from(reduction.merged?.places ?? [], () => -1)]);
      }
      return reduction;
    });
  const { select, beforeBlock, afterAttention, afterBlock } = run;
  return {
    ...(select ? { select: (view) => select.call(run, view) } : {}),
    ...(beforeBlock ? { beforeBlock: watched(beforeBlock) as Hook } : {}),
    ...(afterAttention ? { afterAttention: watched(afterAttention) as Hook } : {}),
    ...(afterBlock ? { afterBlock: watched(afterBlock) as Hook } : {}),
    dispose: () => run.dispose(),
  };
}
