import * as tf from '@tensorflow/tfjs';
import { hasOneRowProduct, ONE_ROW_PRODUCT, oneRowAttributes } from './one_row_node';
import {
  type Attribute,
  attribute,
  bindingVersion,
  deleteHandle,
  execute,
  executeAll,
  fromBytes,
  type Handle,
  handleOf,
  own,
  TYPE,
} from './operations_node';
import { multipliesIn, nativeDevice } from './processor_node';

export type HalfDtype = 'bfloat16' | 'float16';
/** What takes less memory than float32. */
export type ReducedDtype = HalfDtype | 'int8';
/** What our own products take. */
export type HeldDtype = ReducedDtype | 'float32';

/**
 * How a product is taken: `multiplied`, in the weight's own type, where the processor has instructions for it; `widened`, in float32 with pieces of the
 * weight that are widened for the moment; `fused`, in float32 by our own operation, which widens in registers (`kernels/products.cc`).
 */
export type ProductWay = 'multiplied' | 'fused' | 'widened';

/** The first version of our additions to the binding that has operations of its own. */
const FIRST_WITH_PRODUCTS = 2;

/** Whether the binding has our own products. */
export function hasProducts(): boolean {
  return bindingVersion().patch >= FIRST_WITH_PRODUCTS && nativeDevice() === 'cpu';
}

/** The fastest way here. */
export function fastestWay(dtype: ReducedDtype): ProductWay {
  if (dtype !== 'int8' && multipliesIn(dtype)) return 'multiplied';
  return hasProducts() ? 'fused' : 'widened';
}

/** Weights that are widened at once: their 8 MiB in float32 stay in the processor's cache until they are used. */
const PIECE = 2 ** 21;

/** A row of that many weights, or of a multiple, begins where TensorFlow lets a part of a tensor share its memory (every 64 bytes). */
const ALIGNED_ROW = 32;

/** A weight [outDim, inDim], laid out as a checkpoint has it. It is frozen: gradients flow to the rows only. */
export abstract class NativeWeight {
  private readonly gathering: readonly Attribute[];
  private readonly widening: readonly Attribute[];

  constructor(
    dtype: HeldDtype,
    protected readonly weight: tf.Tensor2D,
  ) {
    const type = TYPE[dtype];
    this.gathering = [
      attribute.type('Tparams', type),
      attribute.type('Tindices', TYPE.int32),
      attribute.type('Taxis', TYPE.int32),
      attribute.whole('batch_dims', 0),
    ];
    this.widening = castAttributes(type, TYPE.float32);
  }

  /** rows [R, in] x W^T -> [R, out]; float32 in and out */
  apply(rows: tf.Tensor2D): tf.Tensor2D {
    if (tf.engine().state.gradientDepth === 0) return this.forward(rows);
    const product = tf.customGrad((x) => ({
      value: this.forward(x as tf.Tensor2D),
      gradFunc: (dy: tf.Tensor) => this.backward(dy as tf.Tensor2D),
    }));
    return product(rows) as tf.Tensor2D;
  }

  /** Rows of the weight as a table: ids [n] -> [n, in] */
  lookup(ids: Int32Array): tf.Tensor2D {
    return tf.tidy(() => {
      const inputs = [this.weight, tf.tensor1d(ids, 'int32'), tf.scalar(0, 'int32')];
      const found = execute('GatherV2', this.gathering, inputs.map(handleOf)).id;
      return this.widenedOnce(found);
    });
  }

  dispose(): void {
    this.weight.dispose();
  }

  /** x [R, in] -> [R, out] */
  protected abstract forward(x: tf.Tensor2D): tf.Tensor2D;
  /** dy [R, out] -> dx [R, in] */
  protected abstract backward(dy: tf.Tensor2D): tf.Tensor2D;

  /** In float32, as a tensor of tfjs's. */
  protected widened(reduced: number): tf.Tensor2D {
    return own(execute('Cast', this.widening, [reduced]));
  }

  /** The same, of a handle that is deleted. */
  protected widenedOnce(reduced: number): tf.Tensor2D {
    try {
      return this.widened(reduced);
    } finally {
      deleteHandle(reduced);
    }
  }
}

/**
 * Products in half precision, where the processor multiplies in it: the rows are rounded, the product is summed in float32 and rounded, and widened.
 * W stays [outDim, inDim]: MatMul with transpose_b is the faster one in bfloat16, and the gradient is the same product without.
 */
class MultipliedWeight extends NativeWeight {
  private readonly narrowing: readonly Attribute[];
  private readonly transposed: readonly Attribute[];
  private readonly straight: readonly Attribute[];
  private readonly oneRow: readonly Attribute[] | undefined;
  /** The bias that the product of one row asks for, [outDim]. */
  private readonly zeros: tf.Tensor1D | undefined;

  constructor(dtype: HalfDtype, weight: tf.Tensor2D) {
    super(dtype, weight);
    const type = attribute.type('T', TYPE[dtype]);
    const untouched = attribute.flag('transpose_a', false);
    this.narrowing = castAttributes(TYPE.float32, TYPE[dtype]);
    this.transposed = [type, untouched, attribute.flag('transpose_b', true)];
    this.straight = [type, untouched, attribute.flag('transpose_b', false)];
    if (dtype !== 'bfloat16' || !hasOneRowProduct({ ...bindingVersion(), device: nativeDevice(), fastBfloat16: multipliesIn('bfloat16') })) return;
    this.oneRow = [...this.transposed, ...oneRowAttributes()];
    this.zeros = fromBytes<tf.Tensor1D>(new Uint8Array(2 * weight.shape[0]), [weight.shape[0]], TYPE.bfloat16);
  }

  override dispose(): void {
    super.dispose();
    this.zeros?.dispose();
  }

  protected override forward(x: tf.Tensor2D): tf.Tensor2D {
    // One row is bound by the reading of the weight, at which oneDNN's kernel for it is twice as fast; from two rows on MatMul is the faster.
    if (x.shape[0] === 1 && this.oneRow && this.zeros) return this.product(x, ONE_ROW_PRODUCT, this.oneRow, [this.weight, this.zeros]);
    return this.product(x, 'MatMul', this.transposed, [this.weight]);
  }

  protected override backward(dy: tf.Tensor2D): tf.Tensor2D {
    return this.product(dy, 'MatMul', this.straight, [this.weight]);
  }

  private product(x: tf.Tensor2D, operation: string, attributes: readonly Attribute[], operands: readonly tf.Tensor[]): tf.Tensor2D {
    const narrow = execute('Cast', this.narrowing, [handleOf(x)]).id;
    try {
      return this.widenedOnce(execute(operation, attributes, [narrow, ...operands.map(handleOf)]).id);
    } finally {
      deleteHandle(narrow);
    }
  }
}

/**
 * Products in float32 with pieces of the weight that are widened for the moment: where the processor does not multiply in half precision, and
 * TensorFlow's own products in it are 5 to 10 times slower and cut bits off in place of rounding (measured).
 */
class WidenedWeight extends NativeWeight {
  /** [some of outDim, inDim] each, in the memory of the weight. */
  private readonly pieces: readonly tf.Tensor2D[];

  constructor(dtype: HalfDtype, weight: tf.Tensor2D) {
    super(dtype, weight);
    const [outDim, inDim] = weight.shape;
    const longest = inDim % ALIGNED_ROW === 0 ? Math.max(1, Math.floor(PIECE / inDim)) : outDim;
    const count = Math.max(1, Math.ceil(outDim / longest));
    const edge = (i: number) => Math.round((i * outDim) / count);
    this.pieces = count === 1 ? [] : Array.from({ length: count }, (_, i) => rowsOf(weight, TYPE[dtype], edge(i), edge(i + 1) - edge(i)));
  }

  override dispose(): void {
    super.dispose();
    tf.dispose([...this.pieces]);
  }

  protected override forward(x: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => {
      // As W x^T: for 2 to 128 rows, x W^T would pack all of the weight anew before it multiplies (3 to 10 times slower, measured).
      const columns = this.parts.map((piece) => tf.tidy(() => tf.matMul<tf.Tensor2D>(this.widened(handleOf(piece)), x, false, true))); // [some of out, R]
      const product = columns.length === 1 ? (columns[0] as tf.Tensor2D) : tf.concat(columns, 0);
      return x.shape[0] === 1 ? tf.reshape<tf.Rank.R2>(product, [1, -1]) : tf.transpose(product);
    });
  }

  protected override backward(dy: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => {
      const columns = tf.split<tf.Tensor2D>(
        dy,
        this.parts.map(({ shape }) => shape[0]),
        1,
      );
      const parts = this.parts.map((piece, i) => tf.tidy(() => tf.matMul<tf.Tensor2D>(columns[i] as tf.Tensor2D, this.widened(handleOf(piece)))));
      return tf.addN(parts);
    });
  }

  private get parts(): readonly tf.Tensor2D[] {
    return this.pieces.length > 0 ? this.pieces : [this.weight];
  }
}

/**
 * Products by our own operation: float32 rows and sums, a weight that is widened in registers, read once for up to 12 rows. In int8 each row of the
 * weight is a scale times whole numbers of -127 to 127.
 */
export class FusedWeight extends NativeWeight {
  /** TensorFlow's number of its type. */
  readonly type: number;
  private readonly straight: readonly Attribute[];
  private readonly transposed: readonly Attribute[];

  constructor(
    dtype: HeldDtype,
    weight: tf.Tensor2D,
    /** [outDim] in int8, else [0] */
    private readonly scale: tf.Tensor1D,
  ) {
    super(dtype, weight);
    this.type = TYPE[dtype];
    const type = attribute.type('T', this.type);
    this.straight = [type, attribute.flag('transposed', false)];
    this.transposed = [type, attribute.flag('transposed', true)];
  }

  override lookup(ids: Int32Array): tf.Tensor2D {
    if (this.scale.size === 0) return super.lookup(ids);
    return tf.tidy(() => tf.mul(super.lookup(ids), tf.expandDims(tf.gather(this.scale, tf.tensor1d(ids, 'int32')), 1)));
  }

  override dispose(): void {
    super.dispose();
    this.scale.dispose();
  }

  /** The weight and its scales, as our operations take them. */
  get operands(): readonly [tf.Tensor2D, tf.Tensor1D] {
    return [this.weight, this.scale];
  }

  protected override forward(x: tf.Tensor2D): tf.Tensor2D {
    return this.product(x, this.straight);
  }

  protected override backward(dy: tf.Tensor2D): tf.Tensor2D {
    return this.product(dy, this.transposed);
  }

  private product(x: tf.Tensor2D, attributes: readonly Attribute[]): tf.Tensor2D {
    return own(execute('VisprunerProduct', attributes, [x, ...this.operands].map(handleOf)));
  }
}

/**
 * A weight from its bytes, which belong to it from then on.
 * @param way default: the fastest here
 */
export function halfWeight(dtype: HalfDtype, bytes: Uint8Array, shape: readonly [number, number], way: ProductWay = fastestWay(dtype)): NativeWeight {
  const weight = fromBytes<tf.Tensor2D>(bytes, shape, TYPE[dtype]);
  if (way === 'fused') return new FusedWeight(dtype, weight, tf.zeros([0]));
  return way === 'multiplied' ? new MultipliedWeight(dtype, weight) : new WidenedWeight(dtype, weight);
}

/** The same in float32, by our own products. */
export function float32Weight(bytes: Uint8Array, shape: readonly [number, number]): NativeWeight {
  return new FusedWeight('float32', fromBytes<tf.Tensor2D>(bytes, shape, TYPE.float32), tf.zeros([0]));
}

/** A weight in int8 from its bytes in a floating-point type: each row is scaled so that its largest magnitude is 127, and rounded to nearest. */
export function int8Weight(stored: 'float32' | HalfDtype, bytes: Uint8Array, shape: readonly [number, number]): NativeWeight {
  const exact = fromBytes<tf.Tensor2D>(bytes, shape, TYPE[stored]);
  try {
    const [weight, scale] = executeAll('VisprunerQuantize', [attribute.type('T', TYPE[stored])], [handleOf(exact)], 2) as [Handle, Handle];
    return new FusedWeight('int8', own(weight), own(scale));
  } finally {
    exact.dispose();
  }
}

function castAttributes(from: number, to: number): Attribute[] {
  return [attribute.type('SrcT', from), attribute.type('DstT', to), attribute.flag('Truncate', false)];
}

/** Rows of a matrix, which share its memory where they are aligned. */
function rowsOf(weight: tf.Tensor2D, type: number, start: number, length: number): tf.Tensor2D {
  return tf.tidy(() => {
    const inputs = [weight, tf.tensor1d([start, 0], 'int32'), tf.tensor1d([length, -1], 'int32')];
    return own<tf.Tensor2D>(execute('Slice', [attribute.type('T', type), attribute.type('Index', TYPE.int32)], inputs.map(handleOf)));
  });
}
