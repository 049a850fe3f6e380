import type * as tf from '@tensorflow/tfjs';
import type { Embedding, Matrix, Parameters } from '../layers/parameters';
import { checkDeclarations, type Plan } from './check';
import type { Checkpoint } from './checkpoint';
import { type Declaration, Declarations } from './declarations';
import type { Dtype } from './dtype';
import { findNotFinite, notFinite } from './finite';
import { fanIn, SeededNormals } from './seeded';

/** A weight as a checkpoint holds it. */
export interface StoredWeight {
  readonly name: string;
  readonly dtype: Dtype;
  /** What the layer declared: [outDim, inDim] of a matrix, [rows, dim] of an embedding. */
  readonly shape: readonly number[];
  /** Little-endian, row by row; may start at any address. The factory may keep it. */
  readonly bytes: Uint8Array;
}

/** Makes what layers compute with, in the layout and precision that a backend is fast at. `lib/backend` has one for each backend. */
export interface TensorFactory {
  matrix(name: string, inDim: number, outDim: number, weight: StoredWeight): Matrix;
  embedding(name: string, rows: number, dim: number, weight: StoredWeight): Embedding;
  tensor(name: string, shape: readonly number[], weight: StoredWeight): tf.Tensor;
  /**
   * Called before anything is read, with everything that will be made.
   * @throws BackendError when it will not fit into memory
   */
  checkCapacity?(declarations: readonly Declaration[]): void;
}

export interface FillProgress {
  /** The tensor that was just filled. */
  readonly name: string;
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface FillOptions {
  /** Refuse weights that are NaN or infinite; each is looked at, which takes about as long as reading it. */
  readonly checkFinite?: boolean;
  readonly progress?: (progress: FillProgress) => void;
  readonly signal?: AbortSignal;
}

/** Where the parameters of a model come from. Layers declare under `root`, then the source is checked and filled. */
export interface ParameterSource {
  readonly root: Parameters;
  /**
   * Compares what was declared with what there is, by headers alone.
   * @throws CheckpointError `MISSING_KEYS`, `UNEXPECTED_KEYS`, `SHAPE_MISMATCH`, `UNSUPPORTED_DTYPE`, or `KEYS_DO_NOT_FIT` for several of them: every key in one error
   */
  check(): void;
  /** Checks, then fills everything. A failure or an abort frees all of it; then it can be tried again. @throws CheckpointError `NOT_FINITE` on request */
  fill(options?: FillOptions): Promise<void>;
  /** Frees everything. Idempotent. */
  dispose(): void;
}

/** Milliseconds of uninterrupted work after which timers, sockets and an AbortSignal get their turn. */
const PATIENCE = 50;

/**
 * Parameters from a checkpoint, which stays open and belongs to the caller (it can be closed after `fill`).
 *
 * `const source = checkpointSource(await readCheckpoint(dir), factory); const model = new Llava(config, source.root); await source.fill();`
 */
export function checkpointSource(checkpoint: Checkpoint, factory: TensorFactory): ParameterSource {
  const declarations = new Declarations();
  const plan = (): Plan => checkDeclarations(declarations.all, checkpoint);
  return {
    root: declarations.root,
    check(): void {
      plan();
      factory.checkCapacity?.(declarations.all);
    },
    async fill(options: FillOptions = {}): Promise<void> {
      const { steps, totalBytes } = plan();
      await fillAll(declarations, factory, steps, totalBytes, options, async ({ declaration, stored, dtype }) => {
        const bytes = await checkpoint.bytes(stored, options.signal);
        const damage = options.checkFinite ? findNotFinite({ name: stored, dtype }, bytes) : undefined;
        if (damage !== undefined) throw notFinite(checkpoint.name, [damage]);
        return { name: declaration.name, dtype, shape: declaration.shape, bytes };
      });
    },
    dispose(): void {
      declarations.dispose();
    },
  };
}

/**
 * Parameters made up from a seed, for models built in code, tests and benchmarks: matrices and embeddings are normal with variance 1 / fan-in (so that
 * values neither grow nor vanish from layer to layer), norms are 1, biases normal with deviation 0.02. The same seed and name give the same values,
 * whatever else is declared.
 */
export function seedSource(seed: number, factory: TensorFactory): ParameterSource {
  const declarations = new Declarations();
  return {
    root: declarations.root,
    check(): void {
      factory.checkCapacity?.(declarations.all);
    },
    async fill(options: FillOptions = {}): Promise<void> {
      const steps = declarations.all.map((declaration) => ({ declaration, byteLength: elements(declaration) * 4 }));
      const totalBytes = steps.reduce((sum, step) => sum + step.byteLength, 0);
      await fillAll(declarations, factory, steps, totalBytes, options, async ({ declaration }) => seeded(seed, declaration));
    },
    dispose(): void {
      declarations.dispose();
    },
  };
}

async function fillAll<S extends { readonly declaration: Declaration; readonly byteLength: number }>(
  declarations: Declarations,
  factory: TensorFactory,
  steps: readonly S[],
  totalBytes: number,
  { progress, signal }: FillOptions,
  weightOf: (step: S) => Promise<StoredWeight>,
): Promise<void> {
  declarations.checkEmpty();
  factory.checkCapacity?.(declarations.all);
  let bytes = 0;
  let paused = performance.now();
  try {
    signal?.throwIfAborted();
    for (const step of steps) {
      make(declarations, factory, step.declaration, await weightOf(step));
      bytes += step.byteLength;
      progress?.({ name: step.declaration.name, bytes, totalBytes });
      if (performance.now() - paused > PATIENCE) {
        await new Promise((resolve) => setTimeout(resolve, 0));
        paused = performance.now();
      }
      signal?.throwIfAborted();
    }
    declarations.markFilled();
  } catch (error) {
    declarations.empty();
    throw error;
  }
}

function make(declarations: Declarations, factory: TensorFactory, declaration: Declaration, weight: StoredWeight): void {
  const { kind, name, shape } = declaration;
  const [rows, columns] = shape as readonly [number, number];
  if (kind === 'tensor') declarations.put(kind, name, factory.tensor(name, shape, weight));
  else if (kind === 'matrix') declarations.put(kind, name, factory.matrix(name, columns, rows, weight));
  else declarations.put(kind, name, factory.embedding(name, rows, columns, weight));
}

function elements({ shape }: Declaration): number {
  return shape.reduce((product, size) => product * size, 1);
}

function seeded(seed: number, declaration: Declaration): StoredWeight {
  const { name, shape } = declaration;
  const values = new Float32Array(elements(declaration));
  const normals = new SeededNormals(seed, name);
  if (name.endsWith('bias')) normals.fill(values, 0.02);
  else if (declaration.kind === 'tensor' && shape.length === 1 && /norm\d*\.weight$/.test(name)) values.fill(1);
  else normals.fill(values, 1 / Math.sqrt(fanIn(shape)));
  return { name, dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
}
