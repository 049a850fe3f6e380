import * as tf from '@tensorflow/tfjs';
import { BackendError } from '../../layers/errors';
import type { Embedding, Matrix } from '../../layers/parameters';
import type { Declaration } from '../../weights/declarations';
import { toFloat32 } from '../../weights/dtype';
import type { StoredWeight, TensorFactory } from '../../weights/sources';

/** Bytes of float32 weights that the wasm heap of 4 GiB holds: XNNPACK packs a copy of each weight that it has used. */
const WASM_LIMIT = 2 * 2 ** 30;

/**
 * Weights in float32 with TensorFlow.js operations alone: for `wasm`, `cpu` and `webgpu`, and for whatever else a page registers.
 * Matrices lie as [in, out], for which no transpose flag is needed: with one, the wasm backend leaves its fast product (20 times slower, measured).
 */
export function float32Factory(): TensorFactory {
  return {
    matrix(name: string, inDim: number, outDim: number, weight: StoredWeight): Matrix {
      return new Float32Matrix(name, inDim, outDim, tf.tensor2d(transposed(toFloat32(weight.dtype, weight.bytes), outDim, inDim), [inDim, outDim]));
    },
    embedding(name: string, rows: number, dim: number, weight: StoredWeight): Embedding {
      return new Float32Embedding(name, rows, dim, tf.tensor2d(toFloat32(weight.dtype, weight.bytes), [rows, dim]));
    },
    tensor(_name: string, shape: readonly number[], weight: StoredWeight): tf.Tensor {
      return tf.tensor(toFloat32(weight.dtype, weight.bytes), [...shape], 'float32');
    },
    checkCapacity(declarations: readonly Declaration[]): void {
      const bytes = declarations.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 4), 0);
      if (tf.getBackend() !== 'wasm' || bytes <= WASM_LIMIT) return;
      throw new BackendError(
        'TOO_LARGE_FOR_WASM',
        `The model's weights take ${(bytes / 2 ** 30).toFixed(1)} GiB in float32, the wasm backend holds about ${WASM_LIMIT / 2 ** 30}. Use the backend "tensorflow" or "cuda" (vispruner doctor tells how).`,
      );
    },
  };
}

class Float32Matrix implements Matrix {
  constructor(
    readonly name: string,
    readonly inDim: number,
    readonly outDim: number,
    private readonly weight: tf.Tensor2D,
  ) {}

  apply(rows: tf.Tensor2D): tf.Tensor2D {
    return tf.matMul(rows, this.weight);
  }

  dispose(): void {
    this.weight.dispose();
  }
}

/**
 * One copy, in the layout of its use: [rows, dim] while ids are looked up only; turned to [dim, rows] for good when it first serves as a head, whose
 * product is then 5 to 10 times faster (measured), and looking up n ids n times the cost of one column.
 */
class Float32Embedding implements Embedding {
  private turned = false;

  constructor(
    readonly name: string,
    readonly rows: number,
    readonly dim: number,
    private weight: tf.Tensor2D,
  ) {}

  lookup(ids: Int32Array): tf.Tensor2D {
    return tf.tidy(() => {
      const indices = tf.tensor1d(ids, 'int32');
      return this.turned ? tf.transpose(tf.gather(this.weight, indices, 1)) : tf.gather(this.weight, indices);
    });
  }

  project(x: tf.Tensor2D): tf.Tensor2D {
    if (!this.turned) {
      const rows = this.weight;
      this.weight = tf.keep(tf.transpose(rows));
      this.turned = true;
      rows.dispose();
    }
    return tf.matMul(x, this.weight);
  }

  dispose(): void {
    this.weight.dispose();
  }
}

/** Square of a transposition that stays in the cache. */
const TILE = 32;

/** [rows, columns] -> [columns, rows] */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let top = 0; top < rows; top += TILE) {
    const bottom = Math.min(top + TILE, rows);
    for (let left = 0; left < columns; left += TILE) {
      const right = Math.min(left + TILE, columns);
      for (let i = top; i < bottom; i++) {
        for (let j = left; j < right; j++) result[j * rows + i] = values[i * columns + j] as number;
      }
    }
  }
  return result;
}
