import * as tf from '@tensorflow/tfjs';
import { bfloat16Hindrance, cpuHasBfloat16 } from './cpu_node';
import { type Attribute, attribute, bindingVersion, deleteHandle, execute, fromBytes, handleOf, own, TYPE } from './operations_node';

export type HalfDtype = 'bfloat16' | 'float16';

/** A weight [outDim, inDim] in half precision, with what the product of one row needs besides. */
export interface HalfWeight {
  readonly weight: tf.Tensor2D;
  /** [outDim], where `OneRowProduct` is used. */
  readonly zeros?: tf.Tensor1D;
}

/**
 * Products of float32 rows with half-precision weights, on the native backend: the rows are rounded to the type of the weight, and the result, which
 * TensorFlow sums in float32 and rounds, is float32 again. Differentiable in the rows; the weight is frozen.
 */
export class HalfProducts {
  private readonly narrowing: readonly Attribute[];
  private readonly widening: readonly Attribute[];
  private readonly forward: readonly Attribute[];
  private readonly backward: readonly Attribute[];
  private readonly gathering: readonly Attribute[];
  private readonly oneRow: readonly Attribute[] | undefined;

  constructor(readonly dtype: HalfDtype) {
    const half = TYPE[dtype];
    const cast = (from: number, to: number) => [attribute.type('SrcT', from), attribute.type('DstT', to), attribute.flag('Truncate', false)];
    const product = (transposed: boolean) => [
      attribute.type('T', half),
      attribute.flag('transpose_a', false),
      attribute.flag('transpose_b', transposed),
    ];
    this.narrowing = cast(TYPE.float32, half);
    this.widening = cast(half, TYPE.float32);
    this.forward = product(true);
    this.backward = product(false);
    this.gathering = [attribute.type('Tparams', half), attribute.type('Tindices', 3), attribute.type('Taxis', 3), attribute.whole('batch_dims', 0)];
    if (!hasOneRowProduct(dtype)) return;
    this.oneRow = [
      ...this.forward,
      attribute.whole('num_args', 1),
      attribute.texts('fused_ops', ['BiasAdd']),
      attribute.real('epsilon', 0.0001),
      attribute.real('leakyrelu_alpha', 0.2),
      attribute.text('_kernel', 'MklNameChangeOp'),
    ];
  }

  /** A weight from its bytes, which belong to it from then on. */
  weight(bytes: Uint8Array, shape: readonly [number, number]): HalfWeight {
    const weight = fromBytes<tf.Tensor2D>(bytes, shape, TYPE[this.dtype]);
    return this.oneRow ? { weight, zeros: fromBytes<tf.Tensor1D>(new Uint8Array(2 * shape[0]), [shape[0]], TYPE[this.dtype]) } : { weight };
  }

  /** rows [R, in] x W^T [in, out] -> [R, out] */
  apply(rows: tf.Tensor2D, weight: HalfWeight): tf.Tensor2D {
    const product = tf.customGrad((x: tf.Tensor | tf.NamedTensorMap | object) => ({
      value: this.product(x as tf.Tensor2D, weight),
      gradFunc: (dy: tf.Tensor) => this.multiplied(dy as tf.Tensor2D, 'MatMul', this.backward, [handleOf(weight.weight)]),
    }));
    return product(rows) as tf.Tensor2D;
  }

  /** Rows of a table [rows, dim] -> [n, dim] */
  lookup({ weight }: HalfWeight, ids: Int32Array): tf.Tensor2D {
    return tf.tidy(() => {
      const inputs = [weight, tf.tensor1d(ids, 'int32'), tf.scalar(0, 'int32')].map(handleOf);
      return this.widened(execute('GatherV2', this.gathering, inputs).id);
    });
  }

  private product(x: tf.Tensor2D, { weight, zeros }: HalfWeight): tf.Tensor2D {
    // One row is bound by the reading of the weight, at which the kernel that oneDNN has for it is twice as fast; from two rows on MatMul is the faster.
    if (x.shape[0] === 1 && this.oneRow && zeros) {
      return this.multiplied(x, '_MklNativeFusedMatMul', this.oneRow, [handleOf(weight), handleOf(zeros)]);
    }
    return this.multiplied(x, 'MatMul', this.forward, [handleOf(weight)]);
  }

  private multiplied(x: tf.Tensor2D, operation: string, attributes: readonly Attribute[], operands: readonly number[]): tf.Tensor2D {
    const narrow = execute('Cast', this.narrowing, [handleOf(x)]).id;
    try {
      return this.widened(execute(operation, attributes, [narrow, ...operands]).id);
    } finally {
      deleteHandle(narrow);
    }
  }

  /** Takes the handle away. */
  private widened(half: number): tf.Tensor2D {
    try {
      return own(execute('Cast', this.widening, [half]));
    } finally {
      deleteHandle(half);
    }
  }
}

/**
 * Whether oneDNN's own kernel for one row can be called. A call where it can't is no exception but the end of the process, so everything is asked
 * before: the binding can pass the attributes, TensorFlow is the version that has the operation in this form, and oneDNN has bfloat16 here.
 */
function hasOneRowProduct(dtype: HalfDtype): boolean {
  const { tensorflow, patch } = bindingVersion();
  return dtype === 'bfloat16' && patch >= 1 && tensorflow.startsWith('2.21.') && cpuHasBfloat16() && bfloat16Hindrance() === undefined;
}
