import * as tf from '@tensorflow/tfjs';
import { type CacheTensors, type DecoderBlockOperation, type DecoderBlockParts, type FusedOperations, registerFused } from '../../../layers/fused';
import { attribute, bindingVersion, deleteHandle, execute, executeAll, handleOf, own, wholeNumbers } from './operations_node';
import { nativeDevice } from './processor_node';
import { FusedWeight } from './weight_node';

/** The first version of our additions to the binding that has what a decoder block does between its products (`kernels/{attention,block,decoder}.cc`). */
const FIRST_WITH_DECODER = 6;

/** Tokens, or dimensions, that lie side by side in a cache (`kernels/attention.cc`). */
const LANES = 16;

/** Makes the layers use our own operations, where the binding that was loaded has them. */
export function registerNativeOperations(): void {
  if (bindingVersion().patch >= FIRST_WITH_DECODER && nativeDevice() === 'cpu') registerFused('tensorflow', OPERATIONS);
}

const OPERATIONS: FusedOperations = {
  rmsNorm: (x, weight, epsilon) => own<tf.Tensor2D>(execute('VisprunerRmsNorm', [attribute.real('epsilon', epsilon)], [x, weight].map(handleOf))),
  layerNorm: (x, weight, bias, epsilon) =>
    own<tf.Tensor2D>(execute('VisprunerLayerNorm', [attribute.real('epsilon', epsilon)], [x, weight, bias].map(handleOf))),
  quickGelu: <T extends tf.Tensor>(x: T) => own<T>(execute('VisprunerQuickGelu', [], [handleOf(x)])),
  rotate: (x, { cos, sin }) => own<tf.Tensor2D>(execute('VisprunerRotate', [], [x, cos, sin].map(handleOf))),
  swiglu: <T extends tf.Tensor>(gate: T, up: T) => own<T>(execute('VisprunerSwiglu', [], [gate, up].map(handleOf))),

  attend(queries, keys, values, { heads, keyValueHeads, batch, causal }) {
    const whole = { heads, key_value_heads: keyValueHeads, batch };
    const attributes = [...Object.entries(whole).map(([name, value]) => attribute.whole(name, value)), attribute.flag('causal', causal)];
    return own<tf.Tensor2D>(execute('VisprunerAttention', attributes, [queries, keys, values].map(handleOf)));
  },

  newCache({ keyValueHeads, headDim }, tokens) {
    const blocks = Math.ceil(tokens / LANES);
    const capacity = blocks * LANES;
    return {
      keys: tf.fill([keyValueHeads, blocks, headDim, LANES], 0),
      values: tf.fill([keyValueHeads, Math.ceil(headDim / LANES), capacity, LANES], 0),
      capacity,
    };
  },

  writeCache({ keys, values }, newKeys, newValues, at) {
    withWhole([at], (handle) => executeAll('VisprunerCacheWrite', [], [...[keys, values, newKeys, newValues].map(handleOf), handle], 0));
  },

  readCache: ({ keys, values, capacity }, { keyValueHeads, headDim }, length) =>
    tf.tidy(() => {
      const rows = (byToken: tf.Tensor) => tf.reshape(byToken, [length, keyValueHeads * headDim]) as tf.Tensor2D;
      const byToken = tf.reshape(tf.transpose(keys, [1, 3, 0, 2]), [capacity, keyValueHeads * headDim]);
      const lanes = tf.reshape(tf.transpose(values, [2, 0, 1, 3]), [capacity, keyValueHeads, -1]);
      return { keys: rows(tf.slice(byToken, [0, 0], [length, -1])), values: rows(tf.slice(lanes, [0, 0, 0], [length, -1, headDim])) };
    }),

  attendCache: (queries, { keys, values }: CacheTensors, length) =>
    withWhole([length], (handle) => own<tf.Tensor2D>(execute('VisprunerCacheAttention', [], [...[queries, keys, values].map(handleOf), handle]))),

  decoderBlock,
};

/** Handles stay what they are for as long as their tensors live. */
function decoderBlock({ inputNorm, postNorm, epsilon, matrices }: DecoderBlockParts): DecoderBlockOperation | undefined {
  const weights = matrices.map(({ held }) => held);
  if (!weights.every((weight) => weight instanceof FusedWeight)) return undefined;
  const [{ type } = { type: 0 }] = weights;
  if (weights.some((weight) => weight.type !== type)) return undefined;
  const common = [attribute.type('T', type), attribute.real('epsilon', epsilon)];
  const operands = weights.map(({ operands }) => operands.map(handleOf) as [number, number]);
  const tail = [...operands.map(([weight]) => weight), ...operands.map(([, scale]) => scale)];
  const norms = [inputNorm, postNorm].map(handleOf);
  return (x, { cos, sin }, caches) => {
    const attributes = [...common, attribute.whole('N', caches.length)];
    const held = [...caches.map(({ tensors }) => tensors.keys), ...caches.map(({ tensors }) => tensors.values)].map(handleOf);
    return withWhole(
      caches.map(({ at }) => at),
      (at) => {
        const inputs = [handleOf(x), ...norms, handleOf(cos), handleOf(sin), at, ...held, ...tail];
        return own<tf.Tensor2D>(execute('VisprunerDecoderBlock', attributes, inputs));
      },
    );
  };
}

function withWhole<T>(values: readonly number[], run: (handle: number) => T): T {
  const handle = wholeNumbers(values);
  try {
    return run(handle);
  } finally {
    deleteHandle(handle);
  }
}
