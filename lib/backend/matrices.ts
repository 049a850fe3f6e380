import * as tf from '@tensorflow/tfjs';
import { BackendError } from '../../layers/errors';
import type { Embedding, Matrix } from '../../layers/parameters';
import type { Declaration } from '../../weights/declarations';
import { toFloat32 } from '../../weights/dtype';
import type { MakeOptions, StoredWeight, TensorFactory } from '../../weights/sources';
import { type Piece, upload } from './upload';

/** Bytes of wasm's heap of 4 GiB that weights may take; the rest is for what is computed. Past its end the module is dead for the whole process. */
const WASM_LIMIT = 3.75 * 2 ** 30;

/**
 * Weights in float32 with TensorFlow.js operations alone: for `wasm`, `cpu` and `webgpu`, and for whatever else a page registers.
 * Matrices lie as [in, out], for which no transpose flag is needed: with one, the wasm backend leaves its fast product (20 times slower, measured).
 */
export function float32Factory(): TensorFactory {
  return {
    async matrix(name: string, inDim: number, outDim: number, weight: StoredWeight, { pause }: MakeOptions): Promise<Matrix> {
      return new Float32Matrix(name, inDim, outDim, await upload(weight, [outDim, inDim], { turned: true }, pause));
    },
    async embedding(name: string, rows: number, dim: number, weight: StoredWeight, { head, pause }: MakeOptions): Promise<Embedding> {
      return new Float32Embedding(name, rows, dim, await upload(weight, [rows, dim], { turned: head }, pause), head);
    },
    tensor(_name: string, shape: readonly number[], weight: StoredWeight): tf.Tensor {
      return tf.tensor(toFloat32(weight.dtype, weight.bytes), [...shape], 'float32');
    },
    checkCapacity(declarations: readonly Declaration[]): void {
      if (tf.getBackend() !== 'wasm') return;
      const held = 2 * tf.memory().numBytes; // other models' weights, most of them packed
      const needed = declarations.reduce((sum, declaration) => sum + wasmBytes(declaration), 0);
      if (needed + held <= WASM_LIMIT) return;
      const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
      throw new BackendError(
        'TOO_LARGE_FOR_WASM',
        `The model needs ${gib(needed)} GiB of the wasm backend's memory (float32 weights, and a packed copy of those that are multiplied by), which has room for ${gib(Math.max(0, WASM_LIMIT - held))}. ${held > WASM_LIMIT / 8 ? 'Dispose the models that are loaded already, or use' : 'Use'} the backend "tensorflow" or "cuda" (vispruner doctor tells how).`,
      );
    },
  };
}

/** XNNPACK packs a copy of each weight that it multiplies by. */
function wasmBytes({ kind, shape, head }: Declaration): number {
  const bytes = shape.reduce((product, size) => product * size, 4);
  return kind === 'matrix' || head ? 2 * bytes : bytes;
}

class Float32Matrix implements Matrix {
  constructor(
    readonly name: string,
    readonly inDim: number,
    readonly outDim: number,
    /** [inDim, some of outDim] each. */
    private readonly pieces: readonly Piece[],
  ) {}

  apply(rows: tf.Tensor2D): tf.Tensor2D {
    return product(rows, this.pieces);
  }

  dispose(): void {
    for (const { tensor } of this.pieces) tensor.dispose();
  }
}

/**
 * One copy, in the layout of its use: [rows, dim] while ids are looked up only; [dim, rows], at the latest when it first serves as a head, whose
 * product is then 5 to 10 times faster (measured), and looking up n ids n times the cost of one column.
 */
class Float32Embedding implements Embedding {
  constructor(
    readonly name: string,
    readonly rows: number,
    readonly dim: number,
    private pieces: readonly Piece[],
    private turned: boolean,
  ) {}

  lookup(ids: Int32Array): tf.Tensor2D {
    return tf.tidy(() => {
      if (this.pieces.length === 1) return this.rowsOf(this.pieces[0] as Piece, ids);
      const places: number[] = []; // of the rows as they are found, piece by piece
      const found: tf.Tensor2D[] = [];
      for (const piece of this.pieces) {
        const inside = Array.from(ids.keys()).filter((i) => (ids[i] as number) >= piece.start && (ids[i] as number) < piece.start + piece.length);
        if (inside.length === 0) continue;
        places.push(...inside);
        found.push(
          this.rowsOf(
            piece,
            Int32Array.from(inside, (i) => (ids[i] as number) - piece.start),
          ),
        );
      }
      const order = new Int32Array(ids.length);
      for (const [row, place] of places.entries()) order[place] = row;
      return found.length === 0 ? tf.zeros<tf.Rank.R2>([0, this.dim]) : tf.gather(tf.concat(found, 0), tf.tensor1d(order, 'int32'));
    });
  }

  project(x: tf.Tensor2D): tf.Tensor2D {
    if (!this.turned) this.turn();
    return product(x, this.pieces);
  }

  dispose(): void {
    for (const { tensor } of this.pieces) tensor.dispose();
  }

  private rowsOf({ tensor }: Piece, ids: Int32Array): tf.Tensor2D {
    const indices = tf.tensor1d(ids, 'int32');
    return this.turned ? tf.transpose(tf.gather(tensor, indices, 1)) : tf.gather(tensor, indices);
  }

  private turn(): void {
    this.pieces = this.pieces.map(({ start, length, tensor }) => {
      const turned = tf.keep(tf.transpose(tensor));
      tensor.dispose();
      return { start, length, tensor: turned };
    });
    this.turned = true;
  }
}

/** rows [R, in] times a weight in pieces of its columns -> [R, out] */
function product(rows: tf.Tensor2D, pieces: readonly Piece[]): tf.Tensor2D {
  const [first] = pieces;
  if (first && pieces.length === 1) return tf.matMul(rows, first.tensor);
  return tf.tidy(() =>
    tf.concat(
      pieces.map(({ tensor }) => tf.matMul<tf.Tensor2D>(rows, tensor)),
      1,
    ),
  );
}
