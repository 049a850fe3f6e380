import type * as tf from '@tensorflow/tfjs';
import { BackendError } from '../../../layers/errors';
import type { Embedding, Matrix } from '../../../layers/parameters';
import { allocate } from '../../../weights/byte_source';
import { bytesOf, fromFloat32, toFloat32 } from '../../../weights/dtype';
import type { Pause } from '../../../weights/pacer';
import type { MakeOptions, StoredWeight, TensorFactory } from '../../../weights/sources';
import { float32Factory } from '../matrices';
import { bfloat16Hindrance, cpuHasBfloat16, multipliesIn } from './processor_node';
import {
  fastestWay,
  float32Weight,
  type HalfDtype,
  type HeldDtype,
  halfWeight,
  hasProducts,
  int8Weight,
  type NativeWeight,
  type ProductWay,
  type ReducedDtype,
} from './weight_node';

/** Values rounded between two pauses: about 20 ms. */
const STEP = 2 ** 20;

/**
 * Matrices and embeddings on the backends `tensorflow` and `cuda`; norms, biases and all that is computed are float32.
 * Weights lie as the checkpoint has them, [out, in], and go to the backend as they are when they are stored in that type; others are widened, or rounded
 * to nearest, ties to even, a piece at a time. In int8 each row has a scale of its own.
 *
 * @param way how products in half precision are taken; default: the fastest here. float32 and int8 have one way, for which `hasProducts` must hold.
 */
export function nativeFactory(dtype: HeldDtype, way?: ProductWay): TensorFactory {
  const make = async (weight: StoredWeight, shape: readonly [number, number], pause: Pause) => {
    if (dtype === 'float32') return float32Weight(await float32Bytes(weight, pause), shape);
    if (dtype !== 'int8') return halfWeight(dtype, await halfBytes(weight, dtype, pause), shape, way);
    if (weight.dtype === 'BF16') return int8Weight('bfloat16', weight.bytes, shape);
    if (weight.dtype === 'F16') return int8Weight('float16', weight.bytes, shape);
    return int8Weight('float32', await float32Bytes(weight, pause), shape);
  };
  return {
    ...float32Factory(),
    async matrix(name: string, inDim: number, outDim: number, weight: StoredWeight, { pause }: MakeOptions): Promise<Matrix> {
      return new NativeMatrix(name, inDim, outDim, await make(weight, [outDim, inDim], pause));
    },
    async embedding(name: string, rows: number, dim: number, weight: StoredWeight, { pause }: MakeOptions): Promise<Embedding> {
      return new NativeEmbedding(name, rows, dim, await make(weight, [rows, dim], pause));
    },
  };
}

/** What `auto` holds weights in, by what they are stored in: undefined where that is float32. */
export function fastHalf(backend: 'tensorflow' | 'cuda', stored: 'float32' | HalfDtype): HalfDtype | undefined {
  if (stored === 'float32') return undefined;
  if (backend === 'cuda') return 'float16';
  if (multipliesIn('bfloat16')) return 'bfloat16';
  return hasProducts() ? stored : undefined;
}

export { hasProducts };

/** Why a precision can't be had with this binding, if it can't. */
export function reducedHindrance(dtype: ReducedDtype): string | undefined {
  if (dtype !== 'int8' || hasProducts()) return undefined;
  return 'dtype "int8" needs the binding that "vispruner doctor --install-native" compiles, on the processor: TensorFlow itself has no fast product with int8 weights.';
}

/** Why half precision is slower than float32 here, if it is. */
export function halfWarnings(dtype: ReducedDtype): string[] {
  if (dtype === 'int8' || fastestWay(dtype) !== 'widened') return [];
  const slow = `dtype "${dtype}" takes half of the memory of "float32" here, but is slower:`;
  const mend = 'The binding that "vispruner doctor --install-native" compiles has products for it.';
  if (dtype === 'float16') return [`${slow} the processor does not multiply in float16. ${mend}`];
  if (!cpuHasBfloat16()) return [`${slow} the processor does not multiply in bfloat16 (avx512_bf16, amx_bf16). ${mend}`];
  return [`${slow} ${bfloat16Hindrance(process.env)} keeps TensorFlow from the instructions that the processor has. Unset it.`];
}

class NativeMatrix implements Matrix {
  constructor(
    readonly name: string,
    readonly inDim: number,
    readonly outDim: number,
    readonly held: NativeWeight,
  ) {}

  apply(rows: tf.Tensor2D): tf.Tensor2D {
    return this.held.apply(rows);
  }

  dispose(): void {
    this.held.dispose();
  }
}

/** One copy serves both uses: its rows are what is looked up, and its products with them are the head. */
class NativeEmbedding implements Embedding {
  constructor(
    readonly name: string,
    readonly rows: number,
    readonly dim: number,
    private readonly weight: NativeWeight,
  ) {}

  lookup(ids: Int32Array): tf.Tensor2D {
    return this.weight.lookup(ids);
  }

  project(x: tf.Tensor2D): tf.Tensor2D {
    return this.weight.apply(x);
  }

  dispose(): void {
    this.weight.dispose();
  }
}

/** The bytes of a weight in half precision; its own where it is stored so. @throws BackendError `HALF_OVERFLOW` */
async function halfBytes({ name, dtype: stored, bytes }: StoredWeight, dtype: HalfDtype, pause: Pause): Promise<Uint8Array> {
  const type = dtype === 'bfloat16' ? 'BF16' : 'F16';
  if (stored === type) return bytes;
  const size = bytesOf(stored);
  const result = allocate(name, (bytes.length / size) * 2);
  for (let start = 0; start * size < bytes.length; start += STEP) {
    const piece = fromFloat32(type, toFloat32(stored, bytes.subarray(start * size, (start + STEP) * size)));
    if (piece.overflows > 0) {
      throw new BackendError(
        'HALF_OVERFLOW',
        `"${name}" (${stored}) has values too large for ${dtype}, ${piece.overflows} among elements ${start} to ${start + STEP - 1}. Load it with ${dtype === 'float16' ? 'dtype "bfloat16", which reaches as far as float32, or ' : ''}dtype "float32".`,
      );
    }
    result.set(piece.bytes, start * 2);
    await pause();
  }
  return result;
}

/** The bytes of a weight in float32; its own where it is stored so. */
async function float32Bytes({ name, dtype: stored, bytes }: StoredWeight, pause: Pause): Promise<Uint8Array> {
  if (stored === 'F32') return bytes;
  const size = bytesOf(stored);
  const result = allocate(name, (bytes.length / size) * 4);
  for (let start = 0; start * size < bytes.length; start += STEP) {
    const { buffer, byteOffset, byteLength } = toFloat32(stored, bytes.subarray(start * size, (start + STEP) * size));
    result.set(new Uint8Array(buffer, byteOffset, byteLength), start * 4);
    await pause();
  }
  return result;
}
